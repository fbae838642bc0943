//! A bounded queue to a thread that must never wait for who fills it.
//!
//! No channel: a receiver of one may spin until a sender that it preempted in the middle of
//! sending has finished, and a real-time engine would spin for ever before an ordinary thread
//! on its own core. Here the receiver tries a lock; where it fails, the sender's poke, which
//! comes after, brings it back.
//!
//! See docs/decisions/0008-no-channel-to-the-engine.md.
//!
//! At the bound `send` waits for room, and `try_send` says so.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

#[derive(Debug)]
struct Shared<T> {
    state: Mutex<State<T>>,
    /// Something was taken, or nobody will ever take anything again.
    room: Condvar,
    came: Condvar,
    bound: usize,
}

#[derive(Debug)]
struct State<T> {
    queue: VecDeque<T>,
    closed: bool,
}

/// Makes a queue for at most `bound` things.
pub(super) fn mailbox<T>(bound: usize) -> (Outbox<T>, Inbox<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            queue: VecDeque::new(),
            closed: false,
        }),
        room: Condvar::new(),
        came: Condvar::new(),
        bound,
    });
    (Outbox(shared.clone()), Inbox(shared))
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, mut state: MutexGuard<'_, State<T>>, thing: T) {
        state.queue.push_back(thing);
        drop(state);
        self.came.notify_one();
    }
}

/// The senders' side.
#[derive(Debug)]
pub(super) struct Outbox<T>(Arc<Shared<T>>);

impl<T> Clone for Outbox<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Outbox<T> {
    /// Waits for room. `false`: nobody takes anything any more.
    pub(super) fn send(&self, thing: T) -> bool {
        let state = self.0.lock();
        let full = |state: &mut State<T>| state.queue.len() >= self.0.bound && !state.closed;
        let state = self
            .0
            .room
            .wait_while(state, full)
            .unwrap_or_else(PoisonError::into_inner);
        if state.closed {
            return false;
        }
        self.0.push(state, thing);
        true
    }

    /// Waits for room no longer than that. `false`: there was none, or nobody takes anything.
    pub(super) fn send_within(&self, thing: T, patience: Duration) -> bool {
        let full = |state: &mut State<T>| state.queue.len() >= self.0.bound && !state.closed;
        let (state, waited) = self
            .0
            .room
            .wait_timeout_while(self.0.lock(), patience, full)
            .unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() || state.closed {
            return false;
        }
        self.0.push(state, thing);
        true
    }

    /// `false`: there is no room, or nobody takes anything any more.
    pub(super) fn try_send(&self, thing: T) -> bool {
        let state = self.0.lock();
        if state.closed || state.queue.len() >= self.0.bound {
            return false;
        }
        self.0.push(state, thing);
        true
    }
}

/// The receiver's side. Dropped, it lets nobody wait.
#[derive(Debug)]
pub(super) struct Inbox<T>(Arc<Shared<T>>);

impl<T> Inbox<T> {
    /// The first thing, without waiting for anybody: `None` also where somebody sends just now.
    pub(super) fn try_take(&self) -> Option<T> {
        let mut state = match self.0.state.try_lock() {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        let was_full = state.queue.len() >= self.0.bound;
        let thing = state.queue.pop_front();
        drop(state);
        if was_full {
            self.0.room.notify_all();
        }
        thing
    }

    /// The first thing, waited for until then.
    pub(super) fn take_until(&self, deadline: Instant) -> Option<T> {
        let patience = deadline.saturating_duration_since(Instant::now());
        let (mut state, _) = self
            .0
            .came
            .wait_timeout_while(self.0.lock(), patience, |state| state.queue.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        let thing = state.queue.pop_front();
        drop(state);
        self.0.room.notify_all();
        thing
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.lock().queue.is_empty()
    }
}

impl<T> Drop for Inbox<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closed = true;
        state.queue.clear();
        drop(state);
        self.0.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn things_come_in_order_and_the_bound_holds() {
        let (out, inbox) = mailbox(2);
        assert!(out.try_send(1) && out.send(2) && !out.try_send(3));
        assert!(!out.send_within(3, Duration::from_millis(1)));
        assert_eq!(inbox.try_take(), Some(1));
        assert!(out.try_send(3));
        assert_eq!((inbox.try_take(), inbox.try_take()), (Some(2), Some(3)));
        assert_eq!(inbox.try_take(), None);
    }

    #[test]
    fn a_sender_waits_for_room_and_is_let_go_at_the_end() {
        let (out, inbox) = mailbox(1);
        std::thread::scope(|scope| {
            let sender = scope.spawn(|| [out.send(1), out.send(2), out.send(3)]);
            let deadline = Instant::now() + Duration::from_secs(10);
            assert_eq!(inbox.take_until(deadline), Some(1));
            assert_eq!(inbox.take_until(deadline), Some(2));
            drop(inbox);
            let sent = sender.join().expect("no panic");
            assert_eq!(sent[..2], [true, true]);
        });
        assert!(!out.send(4));
    }

    #[test]
    fn the_receiver_does_not_wait_for_a_sender() {
        let (out, inbox) = mailbox(1);
        assert!(out.send(1));
        let held = out.0.lock();
        assert_eq!(inbox.try_take(), None);
        drop(held);
        assert_eq!(inbox.try_take(), Some(1));
    }
}
