//! Files that are none, and with `STARLING_GGUF=PATH` a real one: SmolLM2-135M-Instruct, or any that knows where Paris is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::protocol::turns::{Turn, Voice, join};

#[test]
fn what_is_no_file_or_too_large_is_refused() {
    assert!(matches!(Gguf::read(vec![7; 100], 1 << 20), Err(EngineError::Device(_))));
    assert!(matches!(Gguf::read(vec![7; 100], 399), Err(EngineError::Memory { needed: 400, free: 399 })));
}

#[test]
fn a_real_model_answers_a_chat() {
    let Ok(path) = std::env::var("STARLING_GGUF") else { return };
    let bytes = std::fs::read(&path).unwrap();
    let gguf = Arc::new(Gguf::read(bytes, 8 << 30).unwrap());
    prove(&gguf, &Control::FREE).unwrap();
    let mut engine = LlmEngine::new(Arc::clone(&gguf));
    let prompt = join(&[Turn { voice: Voice::User, text: b"What is the capital of France?".to_vec() }]);
    let query = Query::Complete { prompt, max_bytes: 120, temperature_milli: 0, seed: 1, stop: vec![] };
    let mut pieces = Vec::new();
    let inferred = engine.infer(gguf.handle(), &query, &Control::FREE, &mut |piece| {
        pieces.push(piece.to_vec());
        true
    });
    let Answer::Text { bytes } = inferred.unwrap().answer else { panic!() };
    let text = String::from_utf8(bytes.clone()).unwrap();
    println!("{text}");
    assert!(text.contains("Paris"), "{text}");
    assert!(pieces.len() > 2 && pieces.concat() == bytes);
    let mut other = LlmEngine::new(Arc::clone(&gguf));
    let again = other.infer(gguf.handle(), &query, &Control::FREE, &mut no_sink).unwrap();
    assert_eq!(again.answer, Answer::Text { bytes }, "equal questions have equal answers");

    let looks = AtomicU64::new(0);
    let stop = || looks.fetch_add(1, Ordering::Relaxed) > 3;
    let stopped = engine.infer(gguf.handle(), &query, &Control::until(&stop), &mut no_sink);
    assert!(matches!(stopped, Err(EngineError::Stopped { .. })));

    let question = Query::NextByte { contexts: vec![b"The capital of France is".to_vec(), vec![]] };
    let inferred = engine.infer(gguf.handle(), &question, &Control::FREE, &mut no_sink).unwrap();
    let Answer::Distributions { probabilities } = inferred.answer else { panic!() };
    let likeliest = |row: &[u16]| row.iter().enumerate().max_by_key(|(_, p)| **p).map(|(byte, _)| byte);
    assert_eq!(likeliest(&probabilities[0]), Some(usize::from(b' ')));
    assert!(probabilities.iter().all(|row| row.iter().map(|p| u64::from(*p)).sum::<u64>() > 60_000));
}
