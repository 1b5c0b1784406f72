//! A stand-in for the Kubernetes API: list and watch of pods, with scripted faults.
