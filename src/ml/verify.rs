//! Prefill verification (M15): whether an answer was written by the model it is claimed to be from, told from one
//! teacher-forced pass of the claimed weights over prompt and answer.
//!
//! Pure. A completion picks the token at each place from the model's distribution by a draw that seed and place alone make.
//! So whoever holds the weights computes the same draw and the same distribution, and the token either *fits* or does not;
//! near ties are given away, because engines round differently. One token proves little, but many do: a likelihood ratio
//! runs against the next smaller published model. While the claim is true its ratio is a fair game: it exceeds `1 /
//! false_alarm` with at most that probability however long one looks (Ville's inequality), so looking after every token
//! costs nothing. At places where both models would write the same nothing is learnt from a token that fits.
//!
//! What is not found: a server that runs the claimed model and edits nothing, but is slow, or not the miner's own.

use super::engine::sampler::{choose, draw};

/// How answers are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampler {
    pub temperature_milli: u32,
    pub seed: u64,
}

/// What is given away, and what errors are taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Params {
    /// A draw so close to a token's share of the distribution still fits (of 1); what rounding moves a border by.
    pub near: f64,
    /// At temperature 0: a token whose log-probability is so close to the likeliest still fits.
    pub near_greedy: f64,
    /// How often a true claim's token does not fit all the same, at most.
    pub unfit: f64,
    /// How often a substitute's token fits at a place where the two models differ, at least as the test assumes.
    pub slack: f64,
    /// How often a token of neither model comes, were the claim false.
    pub other: f64,
    /// Probability that a true claim is ever called false.
    pub false_alarm: f64,
    /// Ratio at which the claim is believed and looked at no more.
    pub believed: f64,
}

impl Default for Params {
    fn default() -> Self {
        Self { near: 0.01, near_greedy: 0.05, unfit: 1e-3, slack: 0.2, other: 0.05, false_alarm: 1e-6, believed: 1e-6 }
    }
}

/// One place of an answer, seen by a validator that holds both models.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Log-probabilities of every token under the claimed model, given all before it. Any constant may be added.
    pub claimed: &'a [f32],
    /// The same under the substitute that is tested against.
    pub substitute: &'a [f32],
    /// What was written.
    pub token: usize,
    /// Its place in the answer, from 0.
    pub place: u64,
}

/// Whether a token is what the model would have written, near ties given away.
pub fn fits(logprobs: &[f32], token: usize, place: u64, sampler: Sampler, params: &Params) -> bool {
    let Some(&told) = logprobs.get(token) else { return false };
    let most = logprobs.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if sampler.temperature_milli == 0 {
        return f64::from(most - told) <= params.near_greedy;
    }
    let temperature = f64::from(sampler.temperature_milli) / 1_000.0;
    let weight = |logprob: f32| (f64::from(logprob - most) / temperature).exp();
    let total: f64 = logprobs.iter().map(|l| weight(*l)).sum();
    let before: f64 = logprobs.iter().take(token).map(|l| weight(*l)).sum::<f64>() / total;
    let drawn = draw(sampler.seed, place);
    (before - params.near..before + weight(told) / total + params.near).contains(&drawn)
}

/// What is known so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Undecided,
    /// As good as proven; nothing more is learnt from looking.
    Believed,
    /// Another model wrote it.
    Substituted,
}

/// The evidence against one claim, over as many answers as come.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Suspicion {
    /// Natural logarithm of the likelihood ratio, substitute over claimed.
    log_ratio: f64,
    /// Places looked at, and those where the token did not fit.
    pub places: u64,
    pub unfit: u64,
    decided: Option<bool>,
}

impl Suspicion {
    pub fn log_ratio(&self) -> f64 {
        self.log_ratio
    }

    pub fn verdict(&self) -> Verdict {
        match self.decided {
            None => Verdict::Undecided,
            Some(true) => Verdict::Substituted,
            Some(false) => Verdict::Believed,
        }
    }

    /// Looks at one more place; once decided it stays so.
    pub fn look(&mut self, place: &Place<'_>, sampler: Sampler, params: &Params) -> Verdict {
        if self.decided.is_some() {
            return self.verdict();
        }
        let fit = fits(place.claimed, place.token, place.place, sampler, params);
        let substitute = choose(place.substitute, sampler.temperature_milli, draw(sampler.seed, place.place));
        let differ = !fits(place.claimed, substitute, place.place, sampler, params);
        // The share of tokens that fit, were the claim false: few where the models differ, nearly all elsewhere.
        let fitting = if differ { params.slack } else { 1.0 - params.other };
        self.log_ratio +=
            if fit { (fitting / (1.0 - params.unfit)).ln() } else { ((1.0 - fitting) / params.unfit).ln() };
        self.places += 1;
        self.unfit += u64::from(!fit);
        if self.log_ratio >= -params.false_alarm.ln() {
            self.decided = Some(true);
        } else if self.log_ratio <= params.believed.ln() {
            self.decided = Some(false);
        }
        self.verdict()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ml::engine::cpu::{CpuEngine, MEMORY_BYTES};
    use crate::ml::engine::{Control, Engine, Handle, no_sink};
    use crate::ml::task::{self, MinerSpec};
    use crate::protocol::chance::Chance;
    use crate::protocol::ids::hash;
    use crate::protocol::query::{Answer, Query};
    use proptest::prelude::*;

    const SAMPLED: Sampler = Sampler { temperature_milli: 1_000, seed: 5 };
    const GREEDY: Sampler = Sampler { temperature_milli: 0, seed: 0 };

    #[test]
    fn a_token_fits_its_own_draw_and_near_ties_are_given_away() {
        let logprobs: Vec<f32> = [0.5_f32, 0.25, 0.25].iter().map(|p| p.ln()).collect();
        let params = Params::default();
        for place in 0..200 {
            let drawn = draw(SAMPLED.seed, place);
            let written = choose(&logprobs, 1_000, drawn);
            assert!(fits(&logprobs, written, place, SAMPLED, &params));
            let fitting = (0..3).filter(|token| fits(&logprobs, *token, place, SAMPLED, &params)).count();
            let near = [0.5, 0.75].iter().any(|border: &f64| (border - drawn).abs() < params.near);
            assert_eq!(fitting, if near { 2 } else { 1 }, "{drawn}");
        }
        assert!(fits(&logprobs, 0, 0, GREEDY, &params) && !fits(&logprobs, 1, 0, GREEDY, &params));
        assert!(fits(&[0.0, -0.04], 1, 0, GREEDY, &params));
        assert!(!fits(&logprobs, 9, 0, SAMPLED, &params), "no token of this model");
    }

    /// Two models trained for unlike long, the larger first.
    fn models() -> (CpuEngine, Handle, Handle) {
        let mut engine = CpuEngine::new(MEMORY_BYTES).unwrap();
        let task = task::open("text").unwrap();
        let mut made = |samples, steps, width| {
            let spec = MinerSpec { model: None, samples, steps, width, seed: 1 };
            let trained = engine.train(None, &task.job(&spec), &Control::FREE).unwrap();
            engine.load(&trained.artifact).unwrap()
        };
        let (large, small) = (made(400_000, 150, 48), made(200_000, 60, 24));
        (engine, large, small)
    }

    fn write(engine: &mut CpuEngine, model: Handle, prompt: &[u8], sampler: Sampler) -> Vec<u8> {
        let Sampler { temperature_milli, seed } = sampler;
        let query = Query::Complete { prompt: prompt.to_vec(), max_bytes: 60, temperature_milli, seed, stop: vec![] };
        match engine.infer(model, &query, &Control::FREE, &mut no_sink).unwrap().answer {
            Answer::Text { bytes } => bytes,
            other => panic!("{other:?}"),
        }
    }

    /// One pass over prompt and answer: the log-probabilities at every place, as a validator's engine tells them.
    fn forced(engine: &mut CpuEngine, model: Handle, prompt: &[u8], answer: &[u8]) -> Vec<Vec<f32>> {
        let contexts = (0..answer.len()).map(|n| [prompt, &answer[..n]].concat()).collect();
        let query = Query::NextByte { contexts };
        let inferred = engine.infer(model, &query, &Control::FREE, &mut no_sink).unwrap();
        let Answer::Distributions { probabilities } = inferred.answer else { panic!() };
        let logprob = |p: u16| (f32::from(p.max(1)) / 65_535.0).ln();
        probabilities.into_iter().map(|row| row.into_iter().map(logprob).collect()).collect()
    }

    /// Answers, and the suspicion against `claimed` when `writer` wrote them; how many answers until it was decided.
    fn tried(writer: usize, temperature_milli: u32, answers: u64) -> (Suspicion, u64) {
        let (mut engine, large, small) = models();
        let writer = [large, small][writer];
        let mut suspicion = Suspicion::default();
        for seed in 0..answers {
            let sampler = Sampler { temperature_milli, seed };
            let prompt = format!("The {seed} hacker");
            let answer = write(&mut engine, writer, prompt.as_bytes(), sampler);
            let claimed = forced(&mut engine, large, prompt.as_bytes(), &answer);
            let substitute = forced(&mut engine, small, prompt.as_bytes(), &answer);
            for (n, byte) in answer.iter().enumerate() {
                let (claimed, substitute) = (&claimed[n], &substitute[n]);
                let place = Place { claimed, substitute, token: usize::from(*byte), place: n as u64 };
                suspicion.look(&place, sampler, &Params { believed: 0.0, ..Params::default() });
            }
            if suspicion.verdict() != Verdict::Undecided {
                return (suspicion, seed + 1);
            }
        }
        (suspicion, answers)
    }

    #[test]
    fn m15_a_smaller_model_is_found_and_the_claimed_one_never_is() {
        for temperature_milli in [0, 1_000] {
            let (honest, _) = tried(0, temperature_milli, 30);
            println!("temperature {temperature_milli}: claimed model, 30 answers: {honest:?}");
            assert_eq!(honest.verdict(), Verdict::Undecided, "{honest:?}");
            assert!(honest.log_ratio() < -20.0 && honest.unfit == 0, "{honest:?}");
            let (found, answers) = tried(1, temperature_milli, 200);
            println!("temperature {temperature_milli}: smaller model found after {answers} answers: {found:?}");
            assert_eq!(found.verdict(), Verdict::Substituted, "{found:?}");
        }
    }

    /// Distributions that have nothing to do with each other.
    fn drawn_row(chance: &mut Chance) -> Vec<f32> {
        (0..16).map(|_| -0.01 * f32::from(u16::try_from(chance.below(400)).unwrap())).collect()
    }

    proptest! {
        #[test]
        fn m15_a_true_claim_is_a_fair_game(seed: [u8; 32]) {
            // Every ratio the claimed model's own tokens can make, weighed by how likely it is: at most one on the mean.
            let params = Params::default();
            for fitting in [params.slack, 1.0 - params.other] {
                let fit = fitting / (1.0 - params.unfit) * (1.0 - params.unfit);
                let unfit = (1.0 - fitting) / params.unfit * params.unfit;
                prop_assert!(fit + unfit <= 1.0 + 1e-12);
            }
            let mut chance = Chance::from(hash("verify", &[&seed]));
            let (mut honest, mut found) = (Suspicion::default(), Suspicion::default());
            for place in 0..400 {
                let (claimed, substitute) = (drawn_row(&mut chance), drawn_row(&mut chance));
                let drawn = draw(SAMPLED.seed, place);
                let token = choose(&claimed, 1_000, drawn);
                honest.look(&Place { claimed: &claimed, substitute: &substitute, token, place }, SAMPLED, &params);
                let token = choose(&substitute, 1_000, drawn);
                found.look(&Place { claimed: &claimed, substitute: &substitute, token, place }, SAMPLED, &params);
            }
            prop_assert_eq!((honest.verdict(), found.verdict()), (Verdict::Believed, Verdict::Substituted));
        }
    }
}
