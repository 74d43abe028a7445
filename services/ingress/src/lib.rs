//! postrider-ingress.
