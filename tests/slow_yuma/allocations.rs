//! What an epoch allocates, counted on the thread that runs it: few pieces once warm, and no more than 1.6 allows.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use starling::ledger::incentive::Workspace;
use starling::sim::bench::Shape;

struct Counting;

thread_local! {
    static PIECES: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn grow(by: isize) {
    let held = HELD.try_with(|held| {
        held.set(held.get() + by);
        held.get()
    });
    let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.unwrap_or(0))));
}

fn count() {
    let _ = PIECES.try_with(|pieces| pieces.set(pieces.get() + 1));
}

#[allow(unsafe_code)]
// SAFETY: every call goes on to the system's allocator unchanged; the counters are plain cells of this thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        grow(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        grow(-(layout.size() as isize));
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        grow(size as isize - layout.size() as isize);
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Pieces of a warm run, and bytes at the peak of a cold and a warm one beside the job.
fn measure(shape: Shape) -> (usize, usize) {
    let job = shape.job().unwrap();
    let before = HELD.get();
    PEAK.set(before);
    let mut workspace = Workspace::new();
    drop(job.run(&mut workspace));
    let pieces = PIECES.get();
    drop(job.run(&mut workspace));
    let pieces = PIECES.get() - pieces;
    let bytes = usize::try_from(PEAK.get() - before).unwrap();
    println!("{shape:?}: {pieces} allocations warm, {bytes} bytes at the peak, {} entries", job.entries());
    (pieces, bytes)
}

fn expect(shape: Shape, most: usize) {
    let (pieces, bytes) = measure(shape);
    assert!(pieces <= 16, "{shape:?}: {pieces} allocations in a warm epoch");
    let entries = shape.rows as usize * shape.each as usize;
    let bound = 16 * entries + 96 * (shape.rows + shape.columns) as usize;
    assert!(bytes <= bound, "{shape:?}: {bytes} bytes; 16 an entry and 96 a row and column are {bound}");
    assert!(bytes <= most, "{shape:?}: {bytes} bytes, at most {most}");
}

const MB: usize = 1_000_000;

#[test]
fn t09_a_warm_epoch_allocates_only_its_result() {
    expect(Shape { rows: 256, columns: 256, each: 256, liquid: false }, 2 * MB);
    expect(Shape { rows: 256, columns: 4_096, each: 4_096, liquid: false }, 20 * MB);
    expect(Shape { rows: 256, columns: 4_096, each: 4_096, liquid: true }, 20 * MB);
}

#[test]
fn t09_memory_goes_with_the_weights_not_with_the_cells() {
    expect(Shape { rows: 1_024, columns: 65_536, each: 1_000, liquid: false }, 180 * MB);
}
