//! The program.

use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match housekeeper::cli::main(std::env::args_os()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // Where even standard error is gone, the exit code has to do.
            match writeln!(std::io::stderr(), "housekeeper: {error:#}") {
                Ok(()) | Err(_) => ExitCode::from(housekeeper::cli::FAILED),
            }
        }
    }
}
