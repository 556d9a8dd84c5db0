#include "base/process_state.h"

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/catch.h"

using namespace ballast;

TEST_CASE("process state: runs, is stopped, is gone") {
    CHECK(process_state(::getpid()) == ProcessState::running);
    const pid_t child = ::fork();
    if (child == 0)
        for (;;) ::pause();
    ::kill(child, SIGSTOP);
    ::waitpid(child, nullptr, WUNTRACED);
    CHECK(process_state(child) == ProcessState::stopped);
    ::kill(child, SIGKILL);
    siginfo_t ended{};
    ::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOWAIT);
    CHECK(process_state(child) == ProcessState::gone);  // a zombie
    ::waitpid(child, nullptr, 0);
    CHECK(process_state(child) == ProcessState::gone);
}
