//! What a reply means for the recipient it was given about.
