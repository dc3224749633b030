//! `docs/configuration.md` and `docs/reference/cli.md`, generated from the declarations of settings and commands.

use std::fmt::Write as _;

use clap::Arg;
use testkit::pages::assert_current;

use super::{ALIASES, texts};

const PATH: &str = "docs/configuration.md";
const CLI_PATH: &str = "docs/reference/cli.md";
const CLI_INTRODUCTION: &str = "\
# Command line

<!-- Generated from the declarations of the commands. Change src/config/args.rs, then run:
     UPDATE_DOCS=1 cargo test --lib config::docs -->

Results go to standard output, log lines and errors to standard error. The exit status is 0 on success, 1 on failure \
(and when `doctor` finds a fault), and 2 for a command line that is not understood.

Every command takes every [setting](../configuration.md) as a flag. `--help` prints the options of the command, \
`--help-all` the settings as well.
";
const INTRODUCTION: &str = "\
# Configuration

<!-- Generated from the declarations of the settings. Change those, then run:
     UPDATE_DOCS=1 cargo test --lib config::docs -->

Each setting is an environment variable and a flag. The flag takes precedence. Variables are also read from `.env` in \
the working directory; a variable of the environment takes precedence over it. An empty value counts as unset. The \
server does not start with a malformed or an unknown setting, and reports all of them.

Durations are seconds, or a number with one of the units `ms`, `s`, `m`, `h`, `d`. Booleans are `true` or `false`. In \
a limit, `0` means no limit.
";

const OTHER_VARIABLES: &str = "
## Variables of other programs

Without `DATABASE_URL`, and unless `EMBEDDED_DATABASE` is true, the variables of Supabase's Realtime name the database: `DB_HOST`, `DB_PORT` (5432), `DB_USER` \
(`postgres`), `DB_PASSWORD`, `DB_NAME` (`postgres`), `DB_SSL`, `DB_SSL_CA_CERT`. Its other variables, such as \
`DB_AFTER_CONNECT_QUERY`, are not needed; one line of the log names them. Without `DB_HOST`, the variables of libpq \
apply if one of `PGHOST`, `PGHOSTADDR`, `PGDATABASE` is set; they also complete a `DATABASE_URL` that lacks a user, a password or another parameter. A password file is read as libpq reads it: `PGPASSFILE`, else `~/.pgpass`. `PGSERVICE` is not supported.
";

#[test]
fn configuration_page_is_current() {
    assert_current(PATH, &render(), "--lib config::docs");
}

#[test]
fn command_line_page_is_current() {
    assert_current(CLI_PATH, &render_commands(), "--lib config::docs");
}

fn render_commands() -> String {
    let mut page = CLI_INTRODUCTION.to_owned();
    for command in super::args::command().get_subcommands() {
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        let _ = write!(page, "\n## rollcall {}\n\n{about}.\n\n", command.get_name());
        let own: Vec<_> = command.get_arguments().filter(|arg| arg.get_env().is_none()).collect();
        if !own.is_empty() {
            page.push_str("| option | default | meaning |\n| --- | --- | --- |\n");
        }
        for arg in own {
            let values = arg.get_value_names().unwrap_or_default().iter().map(|name| format!(" <{name}>"));
            let values = if arg.get_num_args().is_some_and(|range| range.takes_values())
                || !arg.is_positional() && arg.get_action().takes_values()
            {
                values.collect::<String>()
            } else {
                String::new()
            };
            let option = match arg.get_long() {
                Some(long) => format!("--{long}{values}"),
                None => format!("<{}>", arg.get_id().as_str().to_uppercase()),
            };
            let default = arg.get_default_values().first().filter(|_| arg.get_action().takes_values());
            let default = default.map_or_else(String::new, |text| format!("`{}`", text.to_string_lossy()));
            let _ = writeln!(page, "| `{option}` | {default} | {}. |", help(arg));
        }
        let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let _ = write!(page, "\n```text\n{}\n```\n", examples.trim_end());
    }
    page
}

#[test]
fn every_setting_is_described() {
    for arg in texts::declared() {
        let name = arg.get_id();
        assert!(!texts::variable(&arg).is_empty() && arg.get_long().is_some(), "{name}: no variable or flag");
        assert!(arg.get_help().is_some() && arg.get_help_heading().is_some(), "{name}: no help or heading");
        let has_default = !arg.get_default_values().is_empty() && !arg.is_hide_default_value_set();
        let is_key = help(&arg).starts_with("API key");
        let is_stated = has_default || is_key || help(&arg).contains(" Default: ");
        assert!(is_stated, "{name}: the default is not stated");
    }
}

fn render() -> String {
    let settings = texts::declared();
    let mut headings: Vec<_> = settings.iter().filter_map(Arg::get_help_heading).collect();
    let mut seen = Vec::new();
    headings.retain(|heading| {
        !seen.contains(heading) && {
            seen.push(*heading);
            true
        }
    });
    let mut page = INTRODUCTION.to_owned();
    for heading in headings {
        let _ = write!(
            page,
            "\n## {heading}\n\n| Variable | Flag | Default | Value | Meaning |\n| --- | --- | --- | --- | --- |\n"
        );
        for arg in settings.iter().filter(|arg| arg.get_help_heading() == Some(heading)) {
            let (variable, flag) = (texts::variable(arg), arg.get_long().unwrap_or_default());
            let (default, value, meaning) = (default(arg), value(arg), meaning(arg));
            let _ = writeln!(page, "| `{variable}` | `--{flag}` | {default} | {value} | {meaning} |");
        }
    }
    page.push_str("\n## Aliases\n\nAn alias counts when the setting itself is unset.\n\n| Alias | Setting |\n| --- | --- |\n");
    for (alias, variable) in ALIASES {
        let _ = writeln!(page, "| `{alias}` | `{variable}` |");
    }
    page.push_str(OTHER_VARIABLES);
    page
}

/// The declared default, or what the meaning says about it.
fn default(arg: &Arg) -> String {
    match arg.get_default_values() {
        [text] if !arg.is_hide_default_value_set() && !text.is_empty() => {
            format!("`{}`", text.to_string_lossy())
        }
        _ => help(arg)
            .split_once(" Default: ")
            .map_or_else(|| "none".to_owned(), |(_, default)| default.to_owned()),
    }
}

/// What the parser accepts, in its own words: it says so when it rejects a control character.
fn value(arg: &Arg) -> String {
    let Err(message) = texts::parse(arg, "\u{7}") else { return "text".to_owned() };
    let expectation = message.split(" (got ").next().unwrap_or_default();
    expectation.trim_start_matches("must be ").trim_start_matches("must have ").to_owned()
}

fn meaning(arg: &Arg) -> String {
    let help = help(arg);
    let meaning = help.split(" Default: ").next().unwrap_or_default();
    format!("{}.", meaning.trim_end_matches('.'))
}

fn help(arg: &Arg) -> String {
    arg.get_help().map(ToString::to_string).unwrap_or_default()
}
