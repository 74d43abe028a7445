//! The form of mail text: lines that end in CRLF and nothing else. Looks at bytes in bulk; never changes them.
