//! The page `/docs/errors`, to which `doc_url` of an error leads.

use std::{fmt::Write as _, sync::LazyLock};

use crate::protocol::ErrorCode;

/// The page: one section per code, with the code as its ID.
pub(super) static PAGE: LazyLock<String> = LazyLock::new(|| {
    let mut page = HEAD.to_owned();
    for code in ErrorCode::ALL {
        let status =
            code.status().map_or_else(|| "on sockets only".to_owned(), |status| format!("HTTP {status}"));
        let _ = write!(
            page,
            "<section id=\"{name}\" aria-labelledby=\"{name}-title\">\n<h2 id=\"{name}-title\"><code>{name}</code></h2>\n\
             <p class=\"quiet\">{status}</p>\n<p>{}</p>\n<p>{}</p>\n</section>\n",
            html(code.cause()),
            html(code.cure()),
            name = code.as_str(),
        );
    }
    page + "</main>\n</body>\n</html>\n"
});

const HEAD: &str = r##"<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Rollcall errors</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="description" content="Error codes of a Rollcall server, with cause and cure">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="/console/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="/console/style.css">
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
  <h1><img src="/console/icon.svg" alt="" width="28" height="28"> Rollcall errors</h1>
  <nav aria-label="Views"><a href="/">Console</a> <a href="/docs">API</a></nav>
</header>
<main id="main" tabindex="-1" class="docs">
"##;

/// Text with code in backticks as HTML.
fn html(text: &str) -> String {
    let escaped = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let parts = escaped.split('`').enumerate();
    parts
        .map(|(at, part)| if at % 2 == 1 { format!("<code>{part}</code>") } else { part.to_owned() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_doc_url_of_every_code_leads_to_its_section() {
        for code in ErrorCode::ALL {
            let url = code.doc_url();
            let (path, id) = url.split_once('#').expect("has a fragment");
            assert_eq!(path, "/docs/errors");
            assert!(PAGE.contains(&format!("<section id=\"{id}\"")), "{id}");
        }
    }

    #[test]
    fn code_is_marked_and_markup_is_escaped() {
        assert_eq!(html("Send `Bearer <JWT>` & wait."), "Send <code>Bearer &lt;JWT&gt;</code> &amp; wait.");
    }
}
