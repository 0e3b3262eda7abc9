//! The real network, seen from outside: libp2p on sockets, on a runtime of its own.
//!
//! Owns the handle, the start and the listening sockets. Building happens inside the network's own runtime, and a start
//! that fails leaves nothing behind. What runs after that is `task`.

use std::fmt;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};

use libp2p::metrics::Registry;
use libp2p::multiaddr::Protocol as Part;
use libp2p::{Multiaddr, Swarm};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use super::behaviour::Behaviour;
use super::discovery::chain;
use super::gossip::dropped;
use super::guard::ip_of;
use super::task::{Inputs, STOP, TICK, Task};
use super::{Busy, Command, EventSink, NetError, Params, Transport};
use crate::protocol::ids::NodeId;

/// A running network. Dropping it ends it at once; `stop` ends it politely.
pub struct Net {
    local: NodeId,
    commands: mpsc::Sender<Command>,
    verdicts: mpsc::Sender<Command>,
    registry: Arc<Registry>,
    stopped: Mutex<std::sync::mpsc::Receiver<()>>,
    runtime: Mutex<Option<Runtime>>,
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Net({})", self.local.short())
    }
}

impl Net {
    /// Builds the network and listens. Waits only until listening has begun or failed.
    ///
    /// # Errors
    /// An address is taken or cannot be read, or a part cannot be built.
    pub fn start(params: Params, sink: EventSink) -> Result<Self, NetError> {
        let built = |e: std::io::Error| NetError::Build(format!("the runtime: {e}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("net")
            .enable_all()
            .build()
            .map_err(built)?;
        let (commands, commands_in) = mpsc::channel(params.limits.commands);
        let (verdicts, verdicts_in) = mpsc::channel(params.limits.verdicts);
        let (ready, started) = std::sync::mpsc::sync_channel(1);
        let (ended, stopped) = std::sync::mpsc::sync_channel(1);
        let local = params.node();
        // Built inside its own runtime: quic, dns and mdns take the reactor they find (N1).
        runtime.spawn(async move {
            match Task::build(params, sink) {
                Ok((task, registry, votes, streams)) => {
                    // The receivers live as long as `Net`, and without it there is nobody to tell.
                    let _dropped = ready.send(Ok(registry));
                    task.run(Inputs { verdicts: verdicts_in, commands: commands_in, votes, streams }).await;
                    let _dropped = ended.send(());
                }
                Err(error) => drop(ready.send(Err(error))),
            }
        });
        let result = started.recv().unwrap_or_else(|_| Err(NetError::Build("it ended while it started".to_owned())));
        match result {
            Ok(registry) => {
                let (registry, stopped) = (Arc::new(registry), Mutex::new(stopped));
                Ok(Self { local, commands, verdicts, registry, stopped, runtime: Mutex::new(Some(runtime)) })
            }
            Err(error) => {
                runtime.shutdown_background();
                Err(error)
            }
        }
    }

    /// Ends the network: topics left, connections closed, then the runtime. Blocks for about a second at most; true if
    /// everything ended in order.
    pub fn stop(&self) -> bool {
        // After an earlier `Shutdown` there is nobody left to tell, only an end to wait for.
        let _told = self.commands.try_send(Command::Shutdown);
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = stopped.recv_timeout(STOP + TICK).is_ok();
        drop(stopped);
        self.end_runtime();
        ended
    }

    fn end_runtime(&self) {
        let runtime = self.runtime.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(runtime) = runtime {
            // Dropping a runtime inside async code panics; this does not wait.
            runtime.shutdown_background();
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        self.end_runtime();
    }
}

impl Transport for Net {
    fn try_command(&self, command: Command) -> Result<(), Busy> {
        let (queue, name) = match command {
            Command::Verdict { .. } => (&self.verdicts, "verdicts"),
            _ => (&self.commands, "commands"),
        };
        queue.try_send(command).map_err(|_| {
            dropped(name);
            Busy
        })
    }

    fn local(&self) -> NodeId {
        self.local
    }

    fn metrics_text(&self) -> String {
        let mut text = String::new();
        // Writing into a String does not fail.
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            return String::new();
        }
        text.truncate(text.trim_end().trim_end_matches("# EOF").len());
        text
    }
}

/// Listens on every address, or says which one is taken.
pub(super) fn listen(swarm: &mut Swarm<Behaviour>, params: &Params) -> Result<(), NetError> {
    let read = |text: &String| {
        text.parse::<Multiaddr>().map_err(|e| NetError::Address { what: text.clone(), reason: e.to_string() })
    };
    let addresses = params.listen.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    for address in &addresses {
        // libp2p shares a TCP port with whoever else shares it; two nodes on one port would each get half the peers.
        let port = address.iter().find_map(|part| if let Part::Tcp(port) = part { Some(port) } else { None });
        if let Some((ip, port)) = ip_of(address).zip(port.filter(|port| *port != 0)) {
            TcpListener::bind((ip, port))
                .map_err(|e| NetError::Listen { address: address.to_string(), reason: e.to_string() })?;
        }
    }
    for address in addresses {
        let text = address.to_string();
        swarm.listen_on(address).map_err(|e| NetError::Listen { address: text, reason: chain(&e) })?;
    }
    for address in params.external.iter().map(read) {
        swarm.add_external_address(address?);
    }
    Ok(())
}
