// Damaged files make libhdf5 1.10 lose a few hundred bytes inside its own error handling; nothing of ours can free them.

extern "C" const char* __lsan_default_suppressions() { return "leak:libhdf5"; }
