//! PostgreSQL: pool, acting as the caller, listener, migrations, the embedded cluster.

pub mod embedded;
