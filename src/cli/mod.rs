//! Subcommands of `rollcall`. Results go to standard output, logs and errors to standard error.

mod doctor;
mod migrate;
mod serve;
mod token;

use std::process::ExitCode;

use rollcall::config::{Cli, Command, Config, completions};

pub(crate) async fn run(command: Command, config: Config) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve(args) => Box::pin(serve::run(&args, config)).await,
        Command::Migrate(args) => migrate::run(&args, &config).await,
        Command::Token(args) => token::run(&args, &config),
        Command::Doctor(args) => doctor::run(&args, &config).await,
        Command::Completions(args) => {
            print!("{}", completions(args.shell));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// What a start reads before it does anything.
pub(crate) struct Loaded {
    pub command: Command,
    pub config: Config,
    /// A warning about names in `.env`.
    pub dotenv_notice: Option<String>,
}

/// Reads `.env`, the command line and the environment, and validates the settings.
pub(crate) fn load() -> anyhow::Result<Loaded> {
    let names = rollcall::config::read_dotenv()?;
    let Cli { command, settings } = Cli::from_process();
    rollcall::config::check_process_environment()?;
    let config = Config::from_settings(&settings)?;
    Ok(Loaded { command, config, dotenv_notice: rollcall::config::notice_of_dotenv(&names) })
}
