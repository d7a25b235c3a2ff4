//! Who is calling: a credential in a request becomes proof of who signed in, or a refusal.
