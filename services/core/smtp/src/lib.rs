//! postrider-smtp.
