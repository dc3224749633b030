//! The process's limit of file descriptors.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors for everything except sockets of clients and pooled database connections: listeners, the poller, the
/// dedicated database connections, requests to providers, files, and connections that are being refused.
const RESERVED: usize = 128;
/// Sockets that are accepted even if the limit is lower than the reserve.
const MIN_CONNECTIONS: usize = 16;

/// Raises the soft limit to the hard limit. A failure is logged: the server works with the lower limit.
pub fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) }
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of file descriptors");
    }
}

/// Maximum number of client sockets: `wanted`, lowered so that descriptors never run out.
pub fn max_connections(wanted: usize, pool_size: usize) -> usize {
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return wanted };
    let available = available(usize::try_from(soft).unwrap_or(usize::MAX), pool_size);
    if available < wanted {
        tracing::warn!(
            descriptor_limit = soft,
            max_connections = available,
            "MAX_CONNECTIONS is lowered to the limit of file descriptors; raise the hard limit (ulimit -Hn, LimitNOFILE)"
        );
    }
    wanted.min(available)
}

fn available(limit: usize, pool_size: usize) -> usize {
    limit.saturating_sub(RESERVED + pool_size).max(MIN_CONNECTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_reserved_for_the_server_itself() {
        assert_eq!(available(1_024, 8), 888);
        assert_eq!(available(64, 8), MIN_CONNECTIONS);
        assert_eq!(max_connections(5, 8), 5);
    }
}
