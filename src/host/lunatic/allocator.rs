//! The allocator of every process: the system's, with two things added. It tells the supervisor when
//! the memory limit refuses something, and it keeps small blocks that were given back in lists by
//! their size. To handle a message is a dozen small allocations, each of which costs dlmalloc in
//! WebAssembly 40 to 60 ns, there and back, and a list 5.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;

use super::deaths;

#[global_allocator]
static ALLOCATOR: Allocator = Allocator { free: UnsafeCell::new([ptr::null_mut(); CLASSES]) };

/// Blocks are rounded up to this, so that one that is given back fits the next of about its size.
const GRAIN: usize = 16;
/// So many sizes have a list: up to 512 bytes.
const CLASSES: usize = 32;
/// What dlmalloc aligns to by itself.
const ALIGN: usize = 8;

/// What stands in a block that is free: the next one of its size.
struct Free {
    next: *mut Free,
}

/// Worst case: what was given back in small blocks stays there for blocks of the same size, which
/// is at most what the process had in use of that size at its peak.
struct Allocator {
    free: UnsafeCell<[*mut Free; CLASSES]>,
}

// SAFETY: a process of wasip1 has one thread, and no allocation happens within another one.
unsafe impl Sync for Allocator {}

/// The list for a layout, if it is small.
#[inline]
fn class(size: usize, align: usize) -> Option<usize> {
    // Zero never comes: that is the caller's part of `GlobalAlloc`'s contract.
    let class = size.wrapping_sub(1) / GRAIN;
    (class < CLASSES && align <= ALIGN).then_some(class)
}

impl Allocator {
    /// A block from a list, or a fresh one of the list's size.
    #[inline]
    unsafe fn take(&self, class: usize) -> *mut u8 {
        // SAFETY: see `Sync`; the class is below `CLASSES`.
        let list = unsafe { &mut (&mut *self.free.get())[class] };
        let block = *list;
        if block.is_null() {
            // SAFETY: a size of at least `GRAIN`, and an alignment that is a power of two.
            return unsafe {
                System.alloc(Layout::from_size_align_unchecked((class + 1) * GRAIN, ALIGN))
            };
        }
        // SAFETY: what is in the list is free, aligned, and was written by `give_back`.
        *list = unsafe { (*block).next };
        block.cast()
    }

    #[inline]
    unsafe fn give_back(&self, block: *mut u8, class: usize) {
        // SAFETY: see `Sync`; the block has at least `GRAIN` bytes, and nobody uses it any more.
        unsafe {
            let list = &mut (&mut *self.free.get())[class];
            let block = block.cast::<Free>();
            block.write(Free { next: *list });
            *list = block;
        }
    }
}

// SAFETY: small blocks come from the lists, which hold only blocks of at least their size and of
// dlmalloc's alignment; everything else is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Allocator {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let block = match class(layout.size(), layout.align()) {
            // SAFETY: the class is one.
            Some(class) => unsafe { self.take(class) },
            // SAFETY: as our caller says.
            None => unsafe { System.alloc(layout) },
        };
        checked(block, layout.size())
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if class(layout.size(), layout.align()).is_none() {
            // SAFETY: as our caller says.
            return checked(unsafe { System.alloc_zeroed(layout) }, layout.size());
        }
        // SAFETY: as our caller says; a block that is there has the layout's size.
        unsafe {
            let block = self.alloc(layout);
            if !block.is_null() {
                block.write_bytes(0, layout.size());
            }
            block
        }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match class(layout.size(), layout.align()) {
            // SAFETY: the block was taken from this class, since its layout is the same.
            Some(class) => unsafe { self.give_back(block, class) },
            // SAFETY: as our caller says.
            None => unsafe { System.dealloc(block, layout) },
        }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (old, new) = (class(layout.size(), layout.align()), class(size, layout.align()));
        if old.is_none() && new.is_none() {
            // SAFETY: as our caller says.
            return checked(unsafe { System.realloc(block, layout, size) }, size);
        }
        if old == new {
            return block;
        }
        // SAFETY: both layouts are valid, and the shorter one is what is copied.
        unsafe {
            let fresh = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !fresh.is_null() {
                ptr::copy_nonoverlapping(block, fresh, layout.size().min(size));
                self.dealloc(block, layout);
            }
            fresh
        }
    }
}

#[inline]
fn checked(block: *mut u8, bytes: usize) -> *mut u8 {
    if block.is_null() {
        deaths::tell_refused(bytes);
    }
    block
}
