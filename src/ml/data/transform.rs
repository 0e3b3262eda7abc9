//! Seeded changes to an image of a digit: shift, slant, noise, contrast.
//!
//! Everybody has the digits, so challenges show changed ones (M3): a miner that only remembers them fails, one that
//! learnt to read does not. The same changes help in training.

use crate::ml::model::layers::unit;
use crate::protocol::chance::Chance;
use crate::protocol::query::{PIXEL_MAX, PIXELS};

const SIDE: i32 = 8;

/// One drawn change.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Change {
    pub right: i32,
    pub down: i32,
    /// Pixels sideways per row from the middle.
    pub slant: f64,
    /// Factor on every pixel.
    pub contrast: f64,
    /// The most a pixel may be off.
    pub noise: u64,
}

impl Change {
    /// Mild: a reader of digits hardly notices.
    pub fn draw(chance: &mut Chance) -> Self {
        // Three in five stay where they are along each axis; eight pixels leave little room.
        let shift = |chance: &mut Chance| match chance.below(5) {
            0 => -1,
            1 => 1,
            _ => 0,
        };
        Self {
            right: shift(chance),
            down: shift(chance),
            slant: (unit(chance) - 0.5) * 0.5,
            contrast: 0.75 + unit(chance) * 0.4,
            noise: 1 + chance.below(2),
        }
    }

    /// The changed image; pixels from outside are white.
    pub fn apply(&self, image: &[u8], chance: &mut Chance) -> Vec<u8> {
        let at = |x: i32, y: i32| {
            let inside = (0..SIDE).contains(&x) && (0..SIDE).contains(&y);
            let place = usize::try_from(y * SIDE + x).ok().filter(|_| inside);
            place.and_then(|p| image.get(p)).map_or(0.0, |&p| f64::from(p))
        };
        let mut changed = Vec::with_capacity(PIXELS);
        for y in 0..SIDE {
            let aside = self.slant * (f64::from(y) - 3.5);
            let left = aside.floor();
            let share = aside - left;
            for x in 0..SIDE {
                let (from_x, from_y) = (x - self.right - small(left), y - self.down);
                let mixed = at(from_x, from_y) * (1.0 - share) + at(from_x - 1, from_y) * share;
                let noise = chance.below(2 * self.noise + 1) as f64 - self.noise as f64;
                changed.push(pixel(mixed * self.contrast + noise));
            }
        }
        changed
    }
}

/// Draws a change and applies it.
pub fn changed(image: &[u8], chance: &mut Chance) -> Vec<u8> {
    Change::draw(chance).apply(image, chance)
}

#[expect(clippy::cast_possible_truncation, reason = "a whole number of a few pixels")]
fn small(value: f64) -> i32 {
    value as i32
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped into 0 to 16")]
fn pixel(value: f64) -> u8 {
    value.round().clamp(0.0, f64::from(PIXEL_MAX)) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: Change = Change { right: 0, down: 0, slant: 0.0, contrast: 1.0, noise: 0 };

    #[test]
    fn no_change_is_no_change_and_a_shift_moves() {
        let mut image = vec![0; PIXELS];
        image[3 * 8 + 3] = 16;
        let chance = || Chance::from_seed([0; 32]);
        assert_eq!(NONE.apply(&image, &mut chance()), image);
        let moved = Change { right: 1, down: -1, ..NONE }.apply(&image, &mut chance());
        assert_eq!(moved.iter().position(|&p| p == 16), Some(2 * 8 + 4));
        let slanted = Change { slant: 0.5, ..NONE }.apply(&image, &mut chance());
        assert_eq!(slanted.iter().map(|&p| u32::from(p)).sum::<u32>(), 16);
    }

    #[test]
    fn changed_images_stay_images_and_follow_the_seed() {
        let image: Vec<u8> = (0..64).map(|i| i % 17).collect();
        for seed in 0..200 {
            let one = changed(&image, &mut Chance::from_seed([seed; 32]));
            assert_eq!(one, changed(&image, &mut Chance::from_seed([seed; 32])));
            assert!(one.len() == PIXELS && one.iter().all(|&p| p <= PIXEL_MAX));
        }
    }
}
