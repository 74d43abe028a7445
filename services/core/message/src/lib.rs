//! postrider-message.
