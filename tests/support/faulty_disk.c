/* A disk that fails on demand, put before the real binary by LD_PRELOAD.
 *
 * It stands before the calls by which SQLite writes and flushes, and touches only files whose names end
 * in a name of `NAMES`; everything else goes straight to libc. The file that FAULTY_DISK names is shared
 * with the test: the test says there what fails, and reads there what happened.
 *
 * `tests/support/disk.rs` has the other side of `struct control`; both change together.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum fault {
    NONE = 0,
    /* ENOSPC for every write that makes a file longer. */
    FULL = 1,
    /* EIO for writes. */
    WRITE_FAILS = 2,
    /* EIO for flushes. What was written stays in the page cache, as on Linux. */
    FLUSH_FAILS = 3,
    /* Half of a write, and then nothing ever again: the test kills the process there. */
    TORN = 4,
    /* EIO for reads that go through a call; what is mapped is not reached. */
    READ_FAILS = 5,
};

struct control {
    _Atomic uint64_t fault;
    /* Which files: a set of bits, by the place in `NAMES`. */
    _Atomic uint64_t files;
    /* How many calls are let through before one fails. */
    _Atomic int64_t after;
    /* How many calls fail then. */
    _Atomic int64_t times;
    /* How long every flush takes. */
    _Atomic uint64_t flush_ms;
    /* Told to the test: what was done since the file was made. */
    _Atomic uint64_t writes;
    _Atomic uint64_t flushes;
    _Atomic uint64_t faults;
};

static const char *const NAMES[] = {"/everfold.db-wal", "/everfold.db", "/orders.db-wal", "/orders.db"};
enum { NAMES_COUNT = sizeof NAMES / sizeof NAMES[0], MOST_FILES = 65536 };

static struct control *control;
/* For each open file one more than its place in `NAMES`; 0 for all others. */
static _Atomic unsigned char watched[MOST_FILES];

enum { NAP_MS = 5 };

static void *real(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

#define REAL(name) ((__typeof__(&name))({ static void *it; if (!it) it = real(#name); it; }))

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTY_DISK");
    if (!path) return;
    int fd = REAL(open64)(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) abort();
    void *shared = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED) abort();
    REAL(close)(fd);
    control = shared;
}

static void watch(int fd, const char *path) {
    if (!control || fd < 0 || fd >= MOST_FILES) return;
    unsigned char kind = 0;
    size_t length = strlen(path);
    for (unsigned char place = 0; place < NAMES_COUNT; place++) {
        size_t tail = strlen(NAMES[place]);
        if (length >= tail && strcmp(path + length - tail, NAMES[place]) == 0) kind = place + 1;
    }
    watched[fd] = kind;
}

static int is_watched(int fd) {
    return control && fd >= 0 && fd < MOST_FILES && watched[fd];
}

/* Whether the fault is to happen to this call now. */
static int strikes(int fd, enum fault fault) {
    if (control->fault != fault || !(control->files >> (watched[fd] - 1) & 1)) return 0;
    if (atomic_fetch_sub(&control->after, 1) > 0) return 0;
    if (atomic_fetch_sub(&control->times, 1) <= 0) return 0;
    atomic_fetch_add(&control->faults, 1);
    return 1;
}

static int fails(int error) {
    errno = error;
    return -1;
}

static void stand_still(void) {
    for (;;) pause();
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    int fd = REAL(open64)(path, flags, mode);
    watch(fd, path);
    return fd;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    int fd = REAL(open)(path, flags, mode);
    watch(fd, path);
    return fd;
}

int close(int fd) {
    if (is_watched(fd)) watched[fd] = 0;
    return REAL(close)(fd);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off64_t at) {
    if (!is_watched(fd)) return REAL(pwrite64)(fd, bytes, count, at);
    atomic_fetch_add(&control->writes, 1);
    struct stat64 now;
    if (control->fault == FULL && fstat64(fd, &now) == 0 && at + (off64_t)count > now.st_size
        && strikes(fd, FULL))
        return fails(ENOSPC);
    if (strikes(fd, WRITE_FAILS)) return fails(EIO);
    if (strikes(fd, TORN)) {
        REAL(pwrite64)(fd, bytes, count / 2, at);
        stand_still();
    }
    return REAL(pwrite64)(fd, bytes, count, at);
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) {
    return pwrite64(fd, bytes, count, at);
}

ssize_t pread64(int fd, void *bytes, size_t count, off64_t at) {
    if (is_watched(fd) && strikes(fd, READ_FAILS)) return fails(EIO);
    return REAL(pread64)(fd, bytes, count, at);
}

/* A file is made longer by it too. */
int ftruncate64(int fd, off64_t length) {
    struct stat64 now;
    if (is_watched(fd) && control->fault == FULL && fstat64(fd, &now) == 0 && length > now.st_size
        && strikes(fd, FULL))
        return fails(ENOSPC);
    return REAL(ftruncate64)(fd, length);
}

static int flush(int fd, int (*really)(int)) {
    if (!is_watched(fd)) return really(fd);
    atomic_fetch_add(&control->flushes, 1);
    /* In short naps, so that a flush under way ends when the test lets it. */
    for (uint64_t slept = 0; slept < control->flush_ms; slept += NAP_MS)
        nanosleep(&(struct timespec){0, NAP_MS * 1000000}, NULL);
    if (strikes(fd, FLUSH_FAILS)) return fails(EIO);
    return really(fd);
}

int fsync(int fd) {
    return flush(fd, REAL(fsync));
}

int fdatasync(int fd) {
    return flush(fd, REAL(fdatasync));
}
