//! The engine in a seeded world (`support/world.rs`): whatever happens, nothing goes that must
//! stay, and at rest the index equals a recount.
//!
//! To look at one seed: `WORLD_SEED=17 cargo test --test it engine_world`; with `WORLD_TRACE=1`
//! and `--nocapture` every input and effect is printed.

use crate::support::world::{World, say};

const SEEDS: u64 = 400;
const STEPS: usize = 500;

struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            say(&format!("the seed was {}", self.0));
        }
    }
}

fn live(seed: u64) -> World {
    let named = Named(seed);
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    world.rest();
    world.check_rest();
    world.prune_calmly();
    world.check_rest();
    drop(named);
    world
}

#[test]
fn whatever_happens() {
    if let Ok(seed) = std::env::var("WORLD_SEED") {
        live(seed.parse().expect("a number"));
        return;
    }
    let mut n_removed = 0;
    for seed in 0..SEEDS {
        n_removed += live(seed).n_removed;
    }
    assert!(n_removed > SEEDS, "too little was removed to show anything");
}

#[test]
fn a_seed_tells_it_all() {
    for seed in 0..6 {
        assert_eq!(live(seed).trace, live(seed).trace, "seed {seed}");
    }
}
