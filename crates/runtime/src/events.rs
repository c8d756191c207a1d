//! Events to whoever subscribes; a slow subscriber loses events but hears that it did.

use cri::RuntimeEvent;
use parking_lot::Mutex;
use tokio::sync::mpsc;

/// Events that wait for a subscriber.
const QUEUE_MAX: usize = 1024;

#[derive(Default)]
pub struct Events {
    subscribers: Mutex<Vec<Subscriber>>,
}

struct Subscriber {
    sender: mpsc::Sender<RuntimeEvent>,
    lagged: bool,
}

impl Events {
    pub fn subscribe(&self) -> mpsc::Receiver<RuntimeEvent> {
        let (sender, receiver) = mpsc::channel(QUEUE_MAX);
        self.subscribers.lock().push(Subscriber { sender, lagged: false });
        receiver
    }

    pub fn send(&self, event: &RuntimeEvent) {
        self.subscribers.lock().retain_mut(|subscriber| {
            // The place of what was lost is taken by one event that says so.
            let next = if subscriber.lagged { RuntimeEvent::Resync } else { event.clone() };
            match subscriber.sender.try_send(next) {
                Ok(()) => {
                    subscriber.lagged = false;
                    true
                }
                Err(mpsc::error::TrySendError::Full(_)) => {
                    subscriber.lagged = true;
                    true
                }
                Err(mpsc::error::TrySendError::Closed(_)) => false,
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_subscriber_is_told_to_start_over() {
        let events = Events::default();
        let mut receiver = events.subscribe();
        let event = RuntimeEvent::SandboxStopped { sandbox_id: "s".into() };
        for _ in 0..QUEUE_MAX + 5 {
            events.send(&event);
        }
        for _ in 0..QUEUE_MAX {
            assert_eq!(receiver.try_recv().unwrap(), event);
        }
        events.send(&event);
        assert_eq!(receiver.try_recv().unwrap(), RuntimeEvent::Resync);
        drop(receiver);
        events.send(&event);
        assert!(events.subscribers.lock().is_empty());
    }
}
