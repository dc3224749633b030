//! Command line: subcommands, and every setting as a flag and an environment variable.
//!
//! Settings are read as text. Errors therefore name the environment variable even for a flag, and an empty variable
//! counts as unset.

use clap::{Arg, ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, value_parser};

use super::{Config, Settings};

/// Lines have at most 81 characters, so that terminals do not wrap them.
const HELP: &str = "\
First steps:
  rollcall serve --seed            start with an embedded PostgreSQL and demo
                                   data; console at http://127.0.0.1:4000
  set -a; . .rollcall/env; set +a  load its URL and keys for curl, psql, clients
  rollcall token --sub <user id>   print a token for Authorization or the console

With an existing database:
  export DATABASE_URL=postgres://… JWT_SECRET=…
  rollcall doctor                  check the database and print fixes
  rollcall migrate                 apply migrations; serve does this too
  rollcall serve --host 0.0.0.0 --log-format json

Every setting is a flag, or a variable in the environment or in .env:
--port 5000 is PORT=5000. rollcall --help-all lists all settings. A running
server serves its API description at /docs and /openapi.json, and that of its
sockets at /asyncapi.json.";
const SERVE_HELP: &str = "\
Examples:
  rollcall serve --seed            embedded PostgreSQL and demo data
  rollcall serve --host 0.0.0.0 --log-format json
  rollcall serve --otlp-endpoint http://127.0.0.1:4318

Stop it with Ctrl-C or SIGTERM: readiness fails, sockets are closed with a
reconnect delay, and running requests finish. A second signal stops the
server immediately.";
const MIGRATE_HELP: &str = "\
Examples:
  rollcall migrate                 migrate the embedded PostgreSQL
  rollcall migrate --database-url postgres://owner@db.example.com/app
  rollcall migrate --modules channels
                                   only channels; add others later
  rollcall migrate --dry-run       print the SQL and change nothing
  rollcall migrate --down          remove Rollcall from the database";
const TOKEN_HELP: &str = "\
Examples:
  rollcall token --sub a0000000-0000-4000-8000-000000000001
  rollcall token --role service_role --ttl 15m
  rollcall token --sub <user id> --claim 'permissions=[\"presence:admin\"]'";
const DOCTOR_HELP: &str = "\
Examples:
  rollcall doctor                  print findings and the SQL that fixes them
  rollcall doctor --json | jq .    print findings as JSON

The exit status is 0 when all checks pass, otherwise 1.";
const COMPLETIONS_HELP: &str = "\
Examples:
  rollcall completions bash > ~/.local/share/bash-completion/completions/rollcall
  rollcall completions zsh > \"${fpath[1]}/_rollcall\"
  rollcall completions fish > ~/.config/fish/completions/rollcall.fish";

/// The parsed command line.
pub struct Cli {
    pub command: Command,
    /// Settings of the command line and the environment.
    pub settings: Settings,
}

/// Presence, realtime and context over PostgreSQL.
#[derive(Parser)]
#[command(
    name = "rollcall",
    version,
    arg_required_else_help = true,
    subcommand_required = true,
    after_help = HELP
)]
struct Definition {
    #[command(subcommand)]
    _command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the server; without DATABASE_URL it starts an embedded PostgreSQL in the data directory
    #[command(after_help = SERVE_HELP)]
    Serve(ServeArgs),
    /// Apply pending database migrations
    #[command(after_help = MIGRATE_HELP)]
    Migrate(MigrateArgs),
    /// Print a token for a user, signed with JWT_SECRET
    #[command(after_help = TOKEN_HELP)]
    Token(TokenArgs),
    /// Check the database and print findings with fixes
    #[command(after_help = DOCTOR_HELP)]
    Doctor(DoctorArgs),
    /// Print a shell completion script
    #[command(after_help = COMPLETIONS_HELP)]
    Completions(CompletionsArgs),
}

#[derive(Args)]
pub struct ServeArgs {
    /// Load the demo data, once
    #[arg(long)]
    pub seed: bool,
}

#[derive(Args)]
pub struct MigrateArgs {
    /// Load the demo data, once
    #[arg(long)]
    pub seed: bool,
    /// Print the SQL that would run, and change nothing
    #[arg(long, conflicts_with_all = ["seed", "down"])]
    pub dry_run: bool,
    /// Remove Rollcall: its schemas, and the roles and schemas that it created
    #[arg(long, conflicts_with = "seed")]
    pub down: bool,
}

#[derive(Args)]
pub struct TokenArgs {
    /// User ID (UUID); optional for anon and service_role
    #[arg(long)]
    pub sub: Option<uuid::Uuid>,
    /// Role: anon, authenticated or service_role
    #[arg(long, default_value = "authenticated")]
    pub role: String,
    /// Lifetime: seconds, or with a unit: 90s, 15m, 1h, 30d
    #[arg(long, default_value = "1h")]
    pub ttl: String,
    /// Additional claim; the value is parsed as JSON if possible, otherwise it is text
    #[arg(long = "claim", value_name = "NAME=VALUE")]
    pub claims: Vec<String>,
}

#[derive(Args)]
pub struct DoctorArgs {
    /// Print the findings as JSON
    #[arg(long)]
    pub json: bool,
    /// Print declarations of rollcall.use_table and rollcall.watch for tables of the application, and tables whose changes
    /// ask every connected viewer, instead
    #[arg(long, conflicts_with = "json")]
    pub suggest: bool,
}

#[derive(Args)]
pub struct CompletionsArgs {
    /// Shell to generate the script for
    pub shell: clap_complete::Shell,
}

impl Cli {
    /// Reads the process's arguments and environment. Prints help or the error and exits, as clap does.
    pub fn from_process() -> Self {
        Self::from_matches(&text_command().get_matches()).unwrap_or_else(|error| error.exit())
    }

    fn from_matches(matches: &clap::ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { command: Command::from_arg_matches(matches)?, settings: Settings::from_matches(matches) })
    }
}

/// The clap command. Settings may stand before or after the subcommand. Only `--help-all` shows them, without values of
/// the environment.
pub(super) fn command() -> clap::Command {
    let help = |id: &'static str, action| Arg::new(id).long(id).action(action).global(true);
    Config::augment_args(Definition::command())
        .mut_args(|arg| arg.global(true).hide_env_values(true).hide_short_help(true))
        .disable_help_flag(true)
        .arg(help("help", ArgAction::HelpShort).short('h').help("Print help"))
        .arg(help("help-all", ArgAction::HelpLong).help("Print help with all settings"))
}

/// The command with settings as text: [`Config::from_settings`] parses them, so that one start reports all problems.
fn text_command() -> clap::Command {
    command()
        .mut_args(|arg| if arg.get_env().is_some() { arg.value_parser(value_parser!(String)) } else { arg })
}

/// Completion script for a shell.
pub fn completions(shell: clap_complete::Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), "rollcall", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_definition_is_valid() {
        command().debug_assert();
    }

    #[test]
    fn help_examples_parse() {
        let rendered = command().render_help().to_string();
        assert!(rendered.contains("First steps:"), "{rendered}");
        let mut count = 0;
        for subcommand in command().get_subcommands() {
            let help = subcommand.clone().render_help().to_string();
            let examples = help.lines().filter_map(|line| line.trim().strip_prefix("rollcall "));
            for example in examples {
                // The example ends where the shell syntax or the explanation begins.
                let command_line =
                    example.split(" > ").next().unwrap_or_default().split("   ").next().unwrap_or_default();
                let command_line = command_line.split(" | ").next().unwrap_or_default();
                let command_line = command_line.replace("<user id>", "a0000000-0000-4000-8000-000000000001");
                let line = std::iter::once("rollcall").chain(command_line.split_whitespace());
                assert!(command().try_get_matches_from(line).is_ok(), "{example}");
                count += 1;
            }
        }
        assert!(count >= 10, "{count}");
        for text in [HELP, SERVE_HELP, MIGRATE_HELP, TOKEN_HELP, DOCTOR_HELP, COMPLETIONS_HELP] {
            assert!(text.lines().all(|line| line.chars().count() < 82), "{text}");
        }
    }

    #[test]
    fn completions_cover_every_shell() {
        use clap::ValueEnum;
        for shell in clap_complete::Shell::value_variants() {
            let script = completions(*shell);
            for text in ["serve", "doctor", "completions", "database-url"] {
                assert!(script.contains(text), "{shell} lacks {text}");
            }
        }
    }

    #[test]
    fn settings_may_follow_the_subcommand() {
        let matches = text_command().try_get_matches_from(["rollcall", "serve", "--port", "4100"]).unwrap();
        let cli = Cli::from_matches(&matches).unwrap();
        assert_eq!(cli.settings.get("PORT"), Some("4100"));
        assert!(matches!(cli.command, Command::Serve(ServeArgs { seed: false })));
    }

    #[test]
    fn malformed_flag_is_reported_by_its_variable() {
        let matches = text_command().try_get_matches_from(["rollcall", "serve", "--port", "http"]).unwrap();
        let settings = Cli::from_matches(&matches).unwrap().settings;
        let error = Config::from_settings(&settings).unwrap_err().to_string();
        assert_eq!(error, "PORT: must be a port number from 0 to 65535 (got \"http\")");
    }

    #[test]
    fn only_help_all_lists_settings() {
        let printed = |arguments: &[&str]| {
            let line = std::iter::once("rollcall").chain(arguments.iter().copied());
            text_command().try_get_matches_from(line).expect_err("prints help").to_string()
        };
        let short = printed(&["--help"]);
        assert_eq!(short, printed(&["-h"]));
        assert!(short.contains("--help-all"), "{short}");
        for subcommand in command().get_subcommands() {
            let short = printed(&[subcommand.get_name(), "--help"]);
            assert!(short.lines().count() < 40 && !short.contains("--jwt-secret"), "{short}");
            assert!(printed(&[subcommand.get_name(), "--help-all"]).contains("[env: JWT_SECRET]"));
        }
        let long = printed(&["--help-all"]);
        assert!(short.lines().count() < 50 && !short.contains("JWT_SECRET "), "{short}");
        for arg in Config::augment_args(clap::Command::new("settings")).get_arguments() {
            let variable = arg.get_env().unwrap().to_str().unwrap();
            assert!(long.contains(&format!("[env: {variable}]")), "{variable}");
        }
    }
}
