#include "base/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/hdf5_file.h"
#include "base/json_file.h"
#include "base/mapped_file.h"
#include "base/safetensors.h"
#include "tests/base/message_of.h"
#include "tests/base/refused_calls.h"
#include "tests/base/temporary_folder.h"
#include "tests/catch.h"

using namespace ballast;
using ballast::test::bytes_of;
using ballast::test::message_of;
using ballast::test::put_bytes;
using ballast::test::TemporaryFolder;
using ballast::test::with_refused_calls;
using Catch::Matchers::ContainsSubstring;

namespace {

auto files_in(const std::string& folder) { return std::distance(std::filesystem::directory_iterator(folder), {}); }

/// A file system of one megabyte, where mounting is allowed (root outside most containers).
class SmallDisk {
  public:
    explicit SmallDisk(std::string path) : path_(std::move(path)) {
        std::filesystem::create_directory(path_);
        mounted_ = ::mount("tmpfs", path_.c_str(), "tmpfs", 0, "size=1m") == 0;
    }
    ~SmallDisk() {
        if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
    }
    bool mounted() const { return mounted_; }

  private:
    std::string path_;
    bool mounted_;
};

}  // namespace

TEST_CASE("atomic file: the old content or the new, never a part") {
    const TemporaryFolder folder;
    const std::string path = folder.file("a.txt");
    write_file(path, "old");
    {
        AtomicFile file(path);
        file.write("new, but never finished");
        CHECK(bytes_of(path) == "old");
        CHECK(std::filesystem::exists(file.temporary_path()));
    }
    CHECK(bytes_of(path) == "old");
    CHECK(files_in(folder.path()) == 1);
    AtomicFile file(path);
    file.write("new");
    file.write(" and longer");
    file.commit();
    CHECK(read_file(path) == "new and longer");
    CHECK(files_in(folder.path()) == 1);
    CHECK_THROWS_AS(file.commit(), InternalError);
}

TEST_CASE("atomic file: a leftover of an earlier process is overwritten") {
    const TemporaryFolder folder;
    const std::string path = folder.file("a.txt");
    put_bytes(path + ".tmp-1", "a longer leftover");
    write_file(path, "x");
    CHECK(read_file(path) == "x");
    CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("atomic file: another writer keeps its file, and what it leaves when it is killed is removed") {
    const TemporaryFolder folder;
    const std::string path = folder.file("a.txt"), theirs = path + ".tmp-1";
    put_bytes(theirs, "theirs");
    const int writer = ::open(theirs.c_str(), O_RDWR | O_CLOEXEC);
    REQUIRE(::flock(writer, LOCK_EX | LOCK_NB) == 0);
    write_file(path, "ours");
    CHECK(bytes_of(path) == "ours");
    CHECK(bytes_of(theirs) == "theirs");
    require_writable(path);
    CHECK(bytes_of(theirs) == "theirs");
    CHECK(files_in(folder.path()) == 2);
    ::close(writer);  // killed: now its file is a leftover
    write_file(path, "again");
    CHECK(bytes_of(path) == "again");
    CHECK(files_in(folder.path()) == 1);
}

TEST_CASE("atomic file: where there are no locks another's file stays as it is") {
    const TemporaryFolder folder;
    const std::string path = folder.file("a.txt");
    const auto code = with_refused_calls({SYS_flock}, ENOLCK, [&] {
        const std::string theirs = path + ".tmp-1";
        put_bytes(theirs, "theirs");
        write_file(path, "ours");
        return (bytes_of(path) == "ours" ? 1 : 0) + (bytes_of(theirs) == "theirs" ? 2 : 0) +
               (files_in(folder.path()) == 2 ? 4 : 0);
    });
    if (code)
        CHECK(*code == 7);
    else
        WARN("skipped: no system call filters here");
}

TEST_CASE("atomic file: what killed writers left is asked for by name, and the folder not listed") {
    const TemporaryFolder folder;
    const std::string path = folder.file("a.txt");
    const auto code = with_refused_calls({SYS_getdents64}, EACCES, [&] {
        for (const char* left : {".tmp-1", ".tmp-2", ".tmp-3"}) put_bytes(path + left, "left");
        write_file(path, "new");
        int remain = 0;
        for (const char* left : {".tmp-1", ".tmp-2", ".tmp-3"}) remain += std::filesystem::exists(path + left);
        return bytes_of(path) == "new" ? remain : 99;
    });
    if (code)
        CHECK(*code == 0);
    else
        WARN("skipped: no system call filters here");
}

TEST_CASE("atomic file: a link with a temporary's name is not followed") {
    const TemporaryFolder folder;
    const std::string path = folder.file("a.txt");
    put_bytes(folder.file("other"), "other");
    std::filesystem::create_symlink("other", path + ".tmp-1");
    write_file(path, "new");
    CHECK(bytes_of(path) == "new");
    CHECK(bytes_of(folder.file("other")) == "other");
    CHECK(std::filesystem::is_symlink(path + ".tmp-1"));
}

TEST_CASE("atomic file: the old file can go before the new one comes, where a link leads too") {
    const TemporaryFolder folder;
    write_file(folder.file("there"), "old");
    std::filesystem::create_symlink("there", folder.file("link"));
    AtomicFile file(folder.file("link"));
    file.write("new");
    file.remove_old();
    CHECK_FALSE(std::filesystem::exists(folder.file("there")));
    file.remove_old();  // nothing is there any more
    file.commit();
    CHECK(std::filesystem::is_symlink(folder.file("link")));
    CHECK(bytes_of(folder.file("there")) == "new");
    CHECK(files_in(folder.path()) == 2);
}

TEST_CASE("atomic file: a link stays, and where it leads gets the content") {
    const TemporaryFolder folder;
    std::filesystem::create_directory(folder.file("big"));
    write_file(folder.file("big/x"), "old");
    const auto link = [&](const std::string& to, const std::string& name) {
        std::filesystem::create_symlink(to, folder.file(name));
    };
    link("big/x", "relative");
    link(folder.file("relative"), "twice");
    link("big/none", "dangling");
    link("circle", "circle");
    write_file(folder.file("twice"), "new");
    CHECK(bytes_of(folder.file("big/x")) == "new");
    CHECK(std::filesystem::is_symlink(folder.file("twice")));
    CHECK(std::filesystem::is_symlink(folder.file("relative")));
    write_file(folder.file("dangling"), "made");
    CHECK(bytes_of(folder.file("big/none")) == "made");
    CHECK_THAT(message_of([&] { write_file(folder.file("circle"), "x"); }),
               ContainsSubstring(folder.file("circle") + ": Too many levels of symbolic links; check the path"));
    CHECK(files_in(folder.path()) == 5);
    CHECK(files_in(folder.file("big")) == 2);
}

TEST_CASE("atomic file: what a rename would destroy is refused before any work") {
    const TemporaryFolder folder;
    const std::string pipe = folder.file("pipe"), device = folder.file("device"), taken = folder.file("taken");
    REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
    CHECK(message_of([&] { require_writable(pipe); }) ==
          "cannot write " + pipe + ": it is a device or a pipe; name a regular file");
    CHECK(std::filesystem::is_fifo(pipe));
    if (::mknod(device.c_str(), S_IFCHR | 0600, makedev(1, 3)) == 0) {
        CHECK_THAT(message_of([&] { require_writable(device); }), ContainsSubstring("it is a device"));
        CHECK(std::filesystem::is_character_file(device));
    } else {
        WARN("not shown on a device: this user may not make one");
    }
    std::filesystem::create_directory(taken);
    CHECK(message_of([&] { require_writable(taken); }) == "cannot write " + taken + ": Is a directory; name a file");
    CHECK_THAT(message_of([&] { require_writable(folder.file("none/x")); }), ContainsSubstring("No such file"));
    CHECK_THAT(message_of([&] { require_writable(folder.file(std::string(300, 'x'))); }),
               ContainsSubstring("File name too long; check the path"));
    write_file(folder.file("there"), "old");
    require_writable(folder.file("there"));
    CHECK(bytes_of(folder.file("there")) == "old");
    require_writable(folder.file("new"));
    CHECK_FALSE(std::filesystem::exists(folder.file("new")));
}

TEST_CASE("atomic file: an output that is an input is refused, by whatever name") {
    const TemporaryFolder folder;
    write_file(folder.file("a"), "text");
    std::filesystem::create_symlink("a", folder.file("link"));
    const std::vector<std::string> inputs{folder.file("none"), folder.file("a")};
    for (const std::string& output : {folder.file("a"), folder.file("link"), folder.path() + "/./a"})
        CHECK_THAT(message_of([&] { require_not_an_input(output, inputs); }),
                   ContainsSubstring("cannot write " + output + ": it is the input " + folder.file("a")));
    CHECK(message_of([&] { require_not_an_input(folder.file("b"), inputs); }).empty());
    CHECK(message_of([&] { require_not_an_input(folder.file("none"), inputs); }).empty());
}

TEST_CASE("atomic file: two outputs that are one file are refused, by whatever names, there or not") {
    const TemporaryFolder folder;
    write_file(folder.file("there"), "text");
    std::filesystem::create_directory(folder.file("sub"));
    std::filesystem::create_symlink("there", folder.file("link"));
    std::filesystem::create_symlink("new", folder.file("dangling"));
    std::filesystem::create_directory_symlink(folder.path(), folder.file("sub/back"));
    const auto refused = [&](const std::string& name, const std::string& other_name) {
        const std::string one = folder.path() + "/" + name, other = folder.path() + "/" + other_name;
        CAPTURE(one, other);
        CHECK(same_place(one, other));
        CHECK(message_of([&] {
                  require_different_outputs({{"--first", one}, {"--none", ""}, {"--second", other}});
              }) == "--first and --second name the same file, " + other + "; choose another for one of them");
    };
    for (const char* other : {"there", "./there", "link", "sub/../there", "sub/back/there"}) refused("there", other);
    for (const char* other : {"new", "./new", "new/", "dangling", "sub/back/new", "none/../new"}) refused("new", other);
    CHECK_FALSE(same_place(folder.file("new"), folder.file("there")));
    CHECK_FALSE(same_place(folder.file("new"), folder.file("sub/new")));
    CHECK(same_place("not-there", "./not-there"));
    CHECK(same_place("not-there", std::filesystem::current_path() / "not-there"));
    require_different_outputs({{"--first", folder.file("a")}, {"--second", folder.file("b")}});
    require_different_outputs({{"--first", ""}, {"--second", ""}});
}

TEST_CASE("files: the entries of a folder, of none, and of one that cannot be read") {
    const TemporaryFolder folder;
    CHECK(entries_of(folder.path()).empty());
    write_file(folder.file("a"), "");
    std::filesystem::create_directory(folder.file("b"));
    std::vector<std::string> found = entries_of(folder.path());
    std::sort(found.begin(), found.end());
    CHECK(found == std::vector<std::string>{folder.file("a"), folder.file("b")});
    CHECK(entries_of(folder.file("none")).empty());
    CHECK(entries_of(folder.file("a")).empty());
    CHECK(entries_of(folder.file("a/inside")).empty());
    std::filesystem::create_symlink("circle", folder.file("circle"));
    CHECK_THAT(message_of([&] { entries_of(folder.file("circle")); }),
               ContainsSubstring("cannot read the folder " + folder.file("circle") + ": "));
}

TEST_CASE("files: large, empty, missing, a folder, a device") {
    const TemporaryFolder folder;
    const std::string large(300000, 'x');
    write_file(folder.file("large"), large);
    CHECK(read_file(folder.file("large")) == large);
    CHECK(MappedFile(folder.file("large")).bytes().size() == large.size());
    write_file(folder.file("empty"), "");
    CHECK(read_file(folder.file("empty")) == "");
    CHECK(MappedFile(folder.file("empty")).bytes().empty());
    const auto missing = folder.file("missing");
    CHECK(message_of([&] { read_file(missing); }) ==
          "cannot read " + missing + ": No such file or directory; check the path");
    CHECK_THAT(message_of([&] { read_file(folder.path()); }), ContainsSubstring("Is a directory"));
    CHECK_THAT(message_of([&] { write_file(missing + "/x", ""); }), ContainsSubstring("No such file"));
    CHECK_THAT(message_of([&] { write_file(folder.file("large") + "/x", ""); }), ContainsSubstring("Not a directory"));
    CHECK_THAT(message_of([&] { MappedFile("/dev/null"); }), ContainsSubstring("not a regular file"));
    CHECK(files_in(folder.path()) == 2);  // no temporary stays behind
}

TEST_CASE("a folder one may not write to is named") {
    const TemporaryFolder folder;
    ::chmod(folder.path().c_str(), 0500);
    if (::access(folder.path().c_str(), W_OK) == 0) {
        WARN("skipped: this user may write anywhere (root)");
        return;
    }
    CHECK_THAT(message_of([&] { write_file(folder.file("x"), ""); }),
               ContainsSubstring("check who may read or write it"));
    ::chmod(folder.path().c_str(), 0700);
}

TEST_CASE("a full disk is one clear message, and the old file stays") {
    const TemporaryFolder folder;
    const SmallDisk disk(folder.file("disk"));
    if (!disk.mounted()) {
        WARN("skipped: this user may not mount a small file system");
        return;
    }
    const std::vector<char> data(4 << 20, 'x');
    const std::vector<int64_t> shape{static_cast<int64_t>(data.size())};
    const std::string path = folder.file("disk/a");
    const auto check = [&](const auto& write) {
        write_file(path, "old");
        CHECK(message_of(write) ==
              "cannot write " + path + ": No space left on device; free some space or choose another folder");
        CHECK(bytes_of(path) == "old");
        CHECK(files_in(folder.file("disk")) == 1);
    };
    check([&] { write_file(path, {data.data(), data.size()}); });
    check([&] {
        Hdf5Writer writer(path);
        writer.write("x", Dtype::u8, shape, data.data());
        writer.commit();
    });
    check([&] {
        SafetensorsWriter writer(path);
        writer.add("x", Dtype::u8, shape, data.data());
        writer.commit();
    });
    // Full to the last page: HDF5 has only its metadata left to write.
    check([&] {
        const std::vector<int64_t> most{(1 << 20) - 8192};
        Hdf5Writer writer(path);
        writer.write("x", Dtype::u8, most, data.data());
        for (int i = 0; i < 100; ++i)
            writer.write("small" + std::to_string(i), Dtype::u8, std::vector<int64_t>{100}, data.data());
        writer.commit();
    });
    Hdf5Writer writer(path);  // and afterwards HDF5 still works
    writer.write("x", Dtype::u8, std::vector<int64_t>{100}, data.data());
    writer.commit();
    Hdf5Reader(path).verify("x");
}

TEST_CASE("json: files come back, mistakes have a line") {
    const TemporaryFolder folder;
    const nlohmann::json value{{"b", 1}, {"a", {1.5, "é"}}};
    write_json_file(folder.file("a.json"), value);
    CHECK(read_json_file(folder.file("a.json")) == value);
    CHECK(read_file(folder.file("a.json")).back() == '\n');
    write_json_file(folder.file("b.json"), nlohmann::ordered_json{{"z", 1}, {"a", 2}});
    CHECK(read_file(folder.file("b.json")) == "{\n  \"z\": 1,\n  \"a\": 2\n}\n");
    write_json_file(folder.file("c.json"), nlohmann::json("not \xff UTF-8"));
    CHECK(read_json_file(folder.file("c.json")) == "not \xef\xbf\xbd UTF-8");
    CHECK_THAT(message_of([&] { parse_json("{\n\"a\": ,\n}", "given"); }),
               ContainsSubstring("given:2: not valid JSON"));
    CHECK_THAT(message_of([&] { parse_json("", "given"); }), ContainsSubstring("given:1: not valid JSON"));
}
