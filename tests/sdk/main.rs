//! Real AWS SDKs as clients, judged by a third party.
