//! The actors and who talks to whom. Nothing else: this table is the graph, and `integration/house.rs` compares it with
//! the `Links` of every actor.
//!
//! **T** is a tell (no reply, may be lost, counted), **A** an ask (reply and deadline), **N** an ask of the network through
//! the router (reply and deadline, given by another node; the router waits for nobody to give it). Asks form no cycle;
//! tells may.
//!
//! | from | to | messages |
//! | --- | --- | --- |
//! | router | peer_manager | T `PeersSeen`, T `PeerMisbehaved`, T `AddressesFound`, T `TroubleSeen`, T `HelloArrived`, A `HearPresence` |
//! | router | query_dispatcher | T `QueryArrived`, T `QueryWithdrawn` |
//! | router | ledger | A `OfferTransaction` |
//! | router | scorer | T `LogAsked` |
//! | router | checkpointer | A `HearConsensus`, T `SyncArrived` |
//! | router | artifact_keeper | T `ArtifactAsked` |
//! | peer_manager | router | T `Dial`, T `Drop`, T `Admit`, T `SetPeerScore`, T `SetVoters`, N `SayHello`, T `ReplyHello`, T `Publish` |
//! | peer_manager | checkpointer | T `PeersAdmitted` |
//! | query_dispatcher | peer_manager | A `PickMiners`, T `QueryEnded` |
//! | query_dispatcher | router | T `OpenQuery`, T `CancelQuery`, T `ReplyFrame` |
//! | query_dispatcher | worker_pool | A `RunJob` |
//! | query_dispatcher | scorer | T `AnswersCollected` |
//! | scorer | worker_pool | A `RunJob` |
//! | scorer | query_dispatcher | T `Challenge` |
//! | scorer | ledger | A `ReadLedger` |
//! | scorer | router | T `Publish`, T `ReplyLog` |
//! | scorer | artifact_keeper | A `PullArtifact`, A `ReadChunk` |
//! | ledger | scorer | T `HeightFinalised` |
//! | ledger | peer_manager | T `RegistryChanged` |
//! | ledger | checkpointer | T `PendingChanged` |
//! | checkpointer | ledger | A `BuildCheckpoint`, A `CheckProposal`, A `Finalise`, A `ReadCheckpoints` |
//! | checkpointer | router | T `Publish`, T `SendVote`, N `FetchSync`, T `ReplySync` |
//! | checkpointer | peer_manager | T `HeightReached`, T `PeerMisbehaved` |
//! | artifact_keeper | router | N `FetchArtifact`, N `FindHolders`, T `Announce`, T `ReplyArtifact`, T `Dial` |
//! | artifact_keeper | peer_manager | A `ReadPeers`, T `PeerMisbehaved` |
//! | artifact_keeper | ledger | A `ReadLedger` |

pub mod artifact_keeper;
pub mod checkpointer;
pub mod clock;
pub mod ledger;
pub mod mail;
pub mod peer_manager;
pub mod query_dispatcher;
pub mod router;
pub mod scorer;
pub mod worker_pool;
