//! Payment channels: what binds payer and payee between two visits to the ledger (E10, L17).
//!
//! A channel is one-way. Its payer signs vouchers, each with the sum of everything promised so far; the payee needs only
//! the last one. A voucher has no other effect than to be redeemed.

use serde::{Deserialize, Serialize};

use super::ids::{AccountId, ChainId, Digest, PublicKey, hash};
use super::keys::{BadSignature, SecretKey, Signature, verify};
use super::layout::Writer;

const SIGNED_TAG: u8 = 0x11;

/// The id of the channel that a transaction of this account and nonce opens.
pub fn channel_id(payer: &AccountId, payee: &AccountId, nonce: u64) -> Digest {
    hash("starling/1 channel", &[&payer.0, &payee.0, &nonce.to_le_bytes()])
}

/// A promise: of this channel, so much in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Voucher {
    pub channel: Digest,
    pub cumulative: u64,
    pub signature: Signature,
}

fn signing_bytes(chain: &ChainId, channel: &Digest, cumulative: u64) -> Vec<u8> {
    Writer::signed(SIGNED_TAG).raw(&chain.0).raw(&channel.0).u64(cumulative).done()
}

impl Voucher {
    pub fn sign(chain: &ChainId, channel: Digest, cumulative: u64, key: &SecretKey) -> Self {
        Self { channel, cumulative, signature: key.sign(&signing_bytes(chain, &channel, cumulative)) }
    }

    /// # Errors
    /// The channel's key did not sign this sum for this channel on this chain.
    pub fn verify(&self, chain: &ChainId, key: &PublicKey) -> Result<(), BadSignature> {
        verify(key, &signing_bytes(chain, &self.channel, self.cumulative), &self.signature)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::ids::to_hex;

    #[test]
    fn e10_a_voucher_is_good_for_its_channel_sum_and_chain_only() {
        let (key, chain, channel) = (SecretKey::from_seed([1; 32]), ChainId([2; 32]), Digest([3; 32]));
        let bytes = signing_bytes(&chain, &channel, 5);
        assert_eq!(bytes.len(), 78);
        let want = format!("535441523111{}{}0500000000000000", "02".repeat(32), "03".repeat(32));
        assert_eq!(to_hex(&bytes), want);
        let voucher = Voucher::sign(&chain, channel, 5, &key);
        assert_eq!(voucher.verify(&chain, &key.public()), Ok(()));
        assert_eq!(voucher.verify(&ChainId([4; 32]), &key.public()), Err(BadSignature));
        assert_eq!(Voucher { cumulative: 6, ..voucher }.verify(&chain, &key.public()), Err(BadSignature));
        assert_eq!(Voucher { channel: Digest([4; 32]), ..voucher }.verify(&chain, &key.public()), Err(BadSignature));
        let (a, b) = (AccountId([1; 32]), AccountId([2; 32]));
        assert_ne!(channel_id(&a, &b, 7), channel_id(&b, &a, 7));
        assert_ne!(channel_id(&a, &b, 7), channel_id(&a, &b, 8));
    }
}
