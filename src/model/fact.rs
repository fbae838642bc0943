//! What happened, for logs, metrics and audit. Written once, told in many ways.
