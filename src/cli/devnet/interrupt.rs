//! Ctrl-C and its like as something to wait for: every pause of the orchestrator ends when a person wants it to.

use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::error::CliError;

/// Signals that are remembered until somebody waits; more of them mean the same.
const REMEMBERED: usize = 4;

/// The interrupts of this process.
#[derive(Debug)]
pub struct Interrupt {
    signals: Mutex<Receiver<()>>,
    /// Held by an interrupt that never comes, so that waiting on it is waiting for time.
    _never: Option<SyncSender<()>>,
}

impl Interrupt {
    /// Listens for SIGINT, SIGTERM and SIGHUP from now on.
    ///
    /// # Errors
    /// The operating system refuses.
    pub fn listen() -> Result<Self, CliError> {
        let failed = |e: std::io::Error| CliError::failed(format!("listening for Ctrl-C: {e}"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let listen = |kind: SignalKind| -> Result<Signal, CliError> {
            let _inside = runtime.enter();
            signal(kind).map_err(failed)
        };
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let mut hangup = listen(SignalKind::hangup())?;
        let (sender, receiver) = sync_channel(REMEMBERED);
        let spawned = std::thread::Builder::new().name("signals".into()).spawn(move || {
            runtime.block_on(async {
                loop {
                    tokio::select! {
                        _ = interrupt.recv() => {}
                        _ = terminate.recv() => {}
                        _ = hangup.recv() => {}
                    }
                    // Full: enough of them wait already.
                    let _ = sender.try_send(());
                }
            });
        });
        spawned.map_err(failed)?;
        Ok(Self { signals: Mutex::new(receiver), _never: None })
    }

    /// One that never comes, for commands that are over soon and for tests.
    pub fn never() -> Self {
        let (sender, receiver) = sync_channel(1);
        Self { signals: Mutex::new(receiver), _never: Some(sender) }
    }

    /// Waits this long; true when interrupted, which uses the interrupt up.
    pub fn wait(&self, span: Duration) -> bool {
        let Ok(signals) = self.signals.lock() else { return true };
        !matches!(signals.recv_timeout(span), Err(RecvTimeoutError::Timeout))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interrupt_ends_the_wait_once() {
        let interrupt = Interrupt::listen().unwrap();
        assert!(!interrupt.wait(Duration::from_millis(1)));
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGHUP).unwrap();
        assert!(interrupt.wait(Duration::from_secs(5)));
        assert!(!interrupt.wait(Duration::from_millis(1)));
        assert!(!Interrupt::never().wait(Duration::from_millis(1)));
    }
}
