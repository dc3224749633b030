//! The attribute `testkit::test`.

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// Makes an async function with one parameter, the test's database, an ordinary `#[test]`.
///
/// ```ignore
/// #[testkit::test]
/// async fn a_status_is_stored(db: Arc<TestDatabase>) { … }
/// ```
///
/// Arguments, separated by commas:
///
/// - `exclusive`: no other test of the process runs at the same time. For tests that measure time or use all cores.
/// - `no_timeout`: the test may take longer than `testkit::TEST_TIMEOUT`.
#[proc_macro_attribute]
pub fn test(arguments: TokenStream, item: TokenStream) -> TokenStream {
    expand(arguments, item).unwrap_or_else(|message| {
        format!("::core::compile_error!({message:?});").parse().expect("the macro call is valid")
    })
}

fn expand(arguments: TokenStream, item: TokenStream) -> Result<TokenStream, String> {
    let (mut exclusive, mut no_timeout) = (false, false);
    for argument in arguments {
        match &*argument.to_string() {
            "exclusive" => exclusive = true,
            "no_timeout" => no_timeout = true,
            "," => {}
            other => return Err(format!("unknown argument {other}; expected exclusive or no_timeout")),
        }
    }

    // Attributes stay on the outer function; they apply to the inner one too.
    let mut attributes = Vec::new();
    let mut function: Vec<TokenTree> = item.into_iter().collect();
    while matches!(function.first(), Some(TokenTree::Punct(hash)) if hash.as_char() == '#') {
        attributes.extend(function.drain(..2));
    }
    let word = |index: usize| function.get(index).map(ToString::to_string).unwrap_or_default();
    if (word(0), word(1)) != ("async".into(), "fn".into()) {
        return Err("expected a private `async fn` with one parameter, the test's database".into());
    }
    let name = function[2].clone();
    match function.get(3) {
        Some(TokenTree::Group(parameters)) if parameters.delimiter() == Delimiter::Parenthesis => {}
        _ => return Err(format!("{name} must not be generic")),
    }

    let call: TokenStream = format!(
        "::testkit::run_test(|db| ::std::boxed::Box::pin({name}(db)), \
         ::testkit::TestOptions {{ exclusive: {exclusive}, no_timeout: {no_timeout} }});"
    )
    .parse()
    .expect("the call is valid");
    let mut body: TokenStream = function.into_iter().collect();
    body.extend(call);

    let mut output: TokenStream = attributes.into_iter().collect();
    output.extend("#[::core::prelude::v1::test] fn".parse::<TokenStream>().expect("the attribute is valid"));
    output.extend([name, group(Delimiter::Parenthesis, TokenStream::new()), group(Delimiter::Brace, body)]);
    Ok(output)
}

fn group(delimiter: Delimiter, tokens: TokenStream) -> TokenTree {
    proc_macro::Group::new(delimiter, tokens).into()
}
