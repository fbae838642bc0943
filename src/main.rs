//! The program.

use housekeeper::model::path::printable;
use std::io::Write;
use std::process::ExitCode;

fn main() -> ExitCode {
    match housekeeper::cli::main(std::env::args_os(), housekeeper::http::start) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // It may name files, and strangers name files.
            let error = printable(&format!("{error:#}"));
            // Where even standard error is gone, the exit code has to do.
            match writeln!(std::io::stderr(), "housekeeper: {error}") {
                Ok(()) | Err(_) => ExitCode::from(housekeeper::cli::FAILED),
            }
        }
    }
}
