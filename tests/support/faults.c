/* Calls that change files below a folder: counted, and at the n-th a disk that fails, or the end of the process.

   Preloaded (LD_PRELOAD) into a process that forks one child a case. `arm` acts on the calling process and its
   later forks, which share one counter. Calls of libc's own (fopen) are not seen; Python makes none. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NOTHING, FAIL_ONCE, FAIL_ON, KILL_BEFORE, KILL_AFTER, TEAR };     /* actions */
enum { PROCEED, FAIL, THEN_DIE, HALF };                                  /* what a call has to do */

static struct { int action, n, error; unsigned kinds; } plan;
static char below[PATH_MAX], durable[PATH_MAX];
static int armed, log_fd, *count;

__attribute__((constructor)) static void share(void) {
    count = mmap(0, sizeof *count, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

/* `kinds`: letters' bits of the calls that fail; `folder`: absolute; `copies`: see `keep`, or "". */
void arm(const char *folder, int action, int n, int error, unsigned kinds, int log, const char *copies) {
    snprintf(below, sizeof below, "%s/", folder);
    snprintf(durable, sizeof durable, "%s", copies);
    plan.action = action, plan.n = n, plan.error = error, plan.kinds = kinds, log_fd = log, *count = 0;
    armed = 1;
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static void full_path(char *to, int folder, const char *path) {
    char start[PATH_MAX] = "", link[64];
    if (path && path[0] == '/') { snprintf(to, PATH_MAX, "%s", path); return; }
    if (folder == AT_FDCWD) { if (!getcwd(start, sizeof start)) start[0] = 0; }
    else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t size = readlink(link, start, sizeof start - 1);
        start[size > 0 ? size : 0] = 0;
    }
    if (path) snprintf(to, PATH_MAX, "%.2000s/%.2000s", start, path);
    else snprintf(to, PATH_MAX, "%.4000s", start);
}

/* Count a call and decide about it. `path` is NULL for a call on the descriptor `folder` itself. */
static int at(char kind, int folder, const char *path) {
    char where[PATH_MAX], line[PATH_MAX + 32];
    if (!armed) return PROCEED;
    int before = errno;
    full_path(where, folder, path);
    if (strncmp(where, below, strlen(below))) { errno = before; return PROCEED; }
    int now = __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
    int size = snprintf(line, sizeof line, "%c %s\n", kind, where + strlen(below));
    if (log_fd >= 0) syscall(SYS_write, log_fd, line, size);
    errno = before;
    if (now < plan.n || (now > plan.n && plan.action != FAIL_ON)) return PROCEED;
    switch (plan.action) {
        case KILL_BEFORE: die();
        case KILL_AFTER: return THEN_DIE;
        case TEAR: return HALF;
        case FAIL_ONCE: case FAIL_ON:
            if (!(plan.kinds & 1u << (kind - 'a'))) return PROCEED;
            errno = plan.error;
            return FAIL;
        default: return PROCEED;
    }
}

static void copy(int from, int to) {
    char bytes[1 << 16];
    ssize_t size;
    for (off_t offset = 0; (size = pread(from, bytes, sizeof bytes, offset)) > 0; offset += size)
        syscall(SYS_write, to, bytes, size);
}

/* Keep what survives a loss of power: `INODE` with the bytes of a file when it was synced last, `INODE.d` with
   the lines `inode kind name` of a folder. Any other content may be lost. */
static void keep(int fd) {
    char from[64], to[PATH_MAX + 64], part[PATH_MAX + 80];
    struct stat is;
    if (!armed || !durable[0] || fstat(fd, &is)) return;
    char where[PATH_MAX];
    full_path(where, fd, NULL);
    if (strncmp(where, below, strlen(below) - 1)) return;
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    snprintf(to, sizeof to, "%s/%lu%s", durable, (unsigned long)is.st_ino, S_ISDIR(is.st_mode) ? ".d" : "");
    snprintf(part, sizeof part, "%s.part", to);
    int out = syscall(SYS_openat, AT_FDCWD, part, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (S_ISDIR(is.st_mode)) {
        DIR *folder = opendir(from);
        for (struct dirent *entry; (entry = readdir(folder));)
            if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, ".."))
                dprintf(out, "%lu %d %s\n", (unsigned long)entry->d_ino, entry->d_type, entry->d_name);
        closedir(folder);
    } else {
        int in = syscall(SYS_openat, AT_FDCWD, from, O_RDONLY, 0);
        copy(in, out);
        close(in);
    }
    close(out);
    syscall(SYS_renameat2, AT_FDCWD, part, AT_FDCWD, to, 0);
}

/* Forget what is kept of a file that begins anew, or of a new folder: its inode may be that of a deleted one. */
static void forget(int folder, const char *path) {
    char to[PATH_MAX + 64];
    struct stat is;
    if (!armed || !durable[0] || fstatat(folder, path, &is, 0) || (S_ISREG(is.st_mode) && is.st_size)) return;
    snprintf(to, sizeof to, "%s/%lu%s", durable, (unsigned long)is.st_ino, S_ISDIR(is.st_mode) ? ".d" : "");
    syscall(SYS_unlinkat, AT_FDCWD, to, 0);
}

#define DO(kind, folder, path, call) \
    int what = at(kind, folder, path); \
    if (what == FAIL) return -1; \
    long done = what == HALF ? 0 : (call); \
    if (what == THEN_DIE || what == HALF) die(); \
    return done

#define WRITE(fd, size, call, half) \
    int what = at('w', fd, NULL); \
    if (what == FAIL) return -1; \
    if (what == HALF) { half; die(); } \
    ssize_t done = (call); \
    if (what == THEN_DIE) die(); \
    return done

ssize_t write(int fd, const void *bytes, size_t size) {
    WRITE(fd, size, syscall(SYS_write, fd, bytes, size), syscall(SYS_write, fd, bytes, size / 2));
}
ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset) {
    WRITE(fd, size, syscall(SYS_pwrite64, fd, bytes, size, offset),
          syscall(SYS_pwrite64, fd, bytes, size / 2, offset));
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off_t offset) { return pwrite(fd, bytes, size, offset); }
ssize_t writev(int fd, const struct iovec *parts, int many) {
    WRITE(fd, many, syscall(SYS_writev, fd, parts, many), syscall(SYS_writev, fd, parts, many / 2));
}
ssize_t sendfile(int to, int from, off_t *offset, size_t size) {
    WRITE(to, size, syscall(SYS_sendfile, to, from, offset, size),
          syscall(SYS_sendfile, to, from, offset, size / 2));
}
ssize_t sendfile64(int to, int from, off_t *offset, size_t size) { return sendfile(to, from, offset, size); }
ssize_t copy_file_range(int from, off_t *here, int to, off_t *there, size_t size, unsigned flags) {
    WRITE(to, size, syscall(SYS_copy_file_range, from, here, to, there, size, flags), (void)0);
}

static int sync_(int fd, long number) {
    int what = at('s', fd, NULL);
    if (what == FAIL) return -1;
    int done = what == HALF ? 0 : syscall(number, fd);
    if (!done && what != HALF) keep(fd);
    if (what == THEN_DIE || what == HALF) die();
    return done;
}
int fsync(int fd) { return sync_(fd, SYS_fsync); }
int fdatasync(int fd) { return sync_(fd, SYS_fdatasync); }

int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    DO('r', b, to, syscall(SYS_renameat2, a, from, b, to, flags));
}
int renameat(int a, const char *from, int b, const char *to) { return renameat2(a, from, b, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

int linkat(int a, const char *from, int b, const char *to, int flags) {
    DO('l', b, to, syscall(SYS_linkat, a, from, b, to, flags));
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int unlinkat(int folder, const char *path, int flags) {
    DO(flags & AT_REMOVEDIR ? 'd' : 'u', folder, path, syscall(SYS_unlinkat, folder, path, flags));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int folder, const char *path, mode_t mode) {
    int what = at('m', folder, path);
    if (what == FAIL) return -1;
    int done = what == HALF ? 0 : syscall(SYS_mkdirat, folder, path, mode);
    if (!done && what != HALF) forget(folder, path);
    if (what == THEN_DIE || what == HALF) die();
    return done;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int ftruncate(int fd, off_t size) { DO('t', fd, NULL, syscall(SYS_ftruncate, fd, size)); }
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

static int open_(int folder, const char *path, int flags, mode_t mode) {
    if (!(flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)))
        return syscall(SYS_openat, folder, path, flags, mode);
    int what = at('o', folder, path);
    if (what == FAIL) return -1;
    int fd = what == HALF ? -1 : (int)syscall(SYS_openat, folder, path, flags, mode);
    if (fd >= 0 && flags & (O_CREAT | O_TRUNC)) forget(folder, path);
    if (what == THEN_DIE || what == HALF) die();
    return fd;
}
#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { va_list more; va_start(more, flags); mode = va_arg(more, mode_t); va_end(more); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return open_(folder, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return open_(folder, path, flags, mode); }
int open(const char *path, int flags, ...) { MODE(flags) return open_(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_(AT_FDCWD, path, flags, mode); }
int creat(const char *path, mode_t mode) { return open_(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode); }
