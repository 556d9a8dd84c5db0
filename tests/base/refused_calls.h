// A system that refuses some of its calls, as small machines and unusual file systems do.
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <fstream>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace ballast::test {

namespace detail {
/// From here on the `calls` of this process fail with `error`. False when a filter may not be set.
inline bool refuse_calls(const std::vector<unsigned>& calls, unsigned error) {
    std::vector<sock_filter> program{
        {BPF_LD | BPF_W | BPF_ABS, 0, 0, static_cast<unsigned>(offsetof(seccomp_data, nr))}};
    for (const unsigned call : calls) {
        program.push_back({BPF_JMP | BPF_JEQ | BPF_K, 0, 1, call});
        program.push_back({BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ERRNO | error});
    }
    program.push_back({BPF_RET | BPF_K, 0, 0, SECCOMP_RET_ALLOW});
    const sock_fprog filter{static_cast<unsigned short>(program.size()), program.data()};
    return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) == 0;
}
}  // namespace detail

/// What `body` returns, 0 to 99, in a process whose `calls` (SYS_…) fail with `error`; none where the system has no
/// such filters. -1 when the process died.
inline std::optional<int> with_refused_calls(const std::vector<unsigned>& calls, int error,
                                             const std::function<int()>& body) {
    constexpr int kNoFilter = 100;
    const pid_t child = ::fork();
    if (child == 0) {
        if (!detail::refuse_calls(calls, static_cast<unsigned>(error))) ::_exit(kNoFilter);
        ::_exit(body());
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (!WIFEXITED(status)) return -1;
    if (WEXITSTATUS(status) == kNoFilter) return std::nullopt;
    return WEXITSTATUS(status);
}

/// The same of a line of shell that ends with an `exec` of a program.
inline std::optional<int> shell_with_refused_calls(const std::vector<unsigned>& calls, int error,
                                                   const std::string& line) {
    return with_refused_calls(calls, error, [&] {
        ::execl("/bin/sh", "sh", "-c", line.c_str(), nullptr);
        return 99;
    });
}

/// What `body` returns, in a process with room for the stack of one more thread and not of two. -1 when it died. Not
/// with sanitizers, which need the room.
inline int with_room_for_one_thread(const std::function<int()>& body) {
    constexpr rlim_t kStack = rlim_t{256} << 20;
    const pid_t child = ::fork();
    if (child == 0) {
        rlim_t pages = 0;
        std::ifstream("/proc/self/statm") >> pages;
        const rlim_t most = pages * static_cast<rlim_t>(::sysconf(_SC_PAGESIZE)) + kStack + kStack / 2;
        const rlimit limit{most, most};
        pthread_attr_t attributes;
        const bool ready = ::pthread_attr_init(&attributes) == 0 &&
                           ::pthread_attr_setstacksize(&attributes, kStack) == 0 &&
                           ::pthread_setattr_default_np(&attributes) == 0 && ::setrlimit(RLIMIT_AS, &limit) == 0;
        ::_exit(ready ? body() : 100);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace ballast::test
