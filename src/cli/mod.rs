//! Subcommands of `rollcall`. Results go to standard output, logs and errors to standard error.

mod doctor;
mod migrate;
mod serve;
mod token;

use std::process::ExitCode;

use rollcall::config::{Cli, Command, Config, completions};

pub async fn run(command: Command, config: Config) -> anyhow::Result<ExitCode> {
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

/// Reads `.env`, the command line and the environment, and validates the settings.
pub fn load() -> anyhow::Result<(Command, Config)> {
    rollcall::config::read_dotenv()?;
    let Cli { command, settings } = Cli::from_process();
    rollcall::config::check_process_environment()?;
    Ok((command, Config::from_settings(&settings)?))
}
