//! The program: hands the arguments to the command line and its exit code to the system.

use std::process::ExitCode;

/// Half the time of training goes into allocation with the C library's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(starling::cli::main(std::env::args_os()))
}
