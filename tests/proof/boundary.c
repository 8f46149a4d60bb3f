/* Loaded with LD_PRELOAD: counts the calls that make or unmake durable state on files under one folder, and kills its own process, as kill -9
   would, just before the N-th of them. Armed from Python: boundary_arm(N, folder, excepted, log); N <= 0 only counts. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char folder[PATH_MAX], excepted[PATH_MAX];
static atomic_long reached;
static long last;
static int log_fd = -1, armed;

void boundary_arm(long n, const char *under, const char *except, const char *log) {
    snprintf(folder, sizeof folder, "%s", under);
    snprintf(excepted, sizeof excepted, "%s", except);
    log_fd = *log ? open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644) : -1;
    last = n;
    reached = 0;
    armed = 1;
}

long boundary_count(void) { return reached; }

static void at(const char *call, const char *path) {
    if (!armed || strncmp(path, folder, strlen(folder)) || (*excepted && !strncmp(path, excepted, strlen(excepted)))) return;
    long here = atomic_fetch_add(&reached, 1) + 1;
    if (log_fd >= 0) dprintf(log_fd, "%ld %s %s\n", here, call, path + strlen(folder));
    if (here == last) kill(getpid(), SIGKILL), pause();
}

static void at_fd(const char *call, int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = armed ? readlink(link, path, sizeof path - 1) : -1;
    if (size > 0) path[size] = 0, at(call, path);
}

static void at_path(const char *call, int dir, const char *name) {
    char path[2 * PATH_MAX], link[64];
    if (*name == '/') { at(call, name); return; }
    snprintf(link, sizeof link, dir == AT_FDCWD ? "/proc/self/cwd" : "/proc/self/fd/%d", dir);
    ssize_t size = armed ? readlink(link, path, PATH_MAX - 1) : -1;
    if (size > 0) path[size] = '/', strcpy(path + size + 1, name), at(call, path);
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)
int fsync(int fd) { REAL(int, "fsync", int); at_fd("fsync", fd); return real(fd); }
int fdatasync(int fd) { REAL(int, "fdatasync", int); at_fd("fdatasync", fd); return real(fd); }
int ftruncate(int fd, off_t size) { REAL(int, "ftruncate", int, off_t); at_fd("ftruncate", fd); return real(fd, size); }
int ftruncate64(int fd, off64_t size) { REAL(int, "ftruncate64", int, off64_t); at_fd("ftruncate", fd); return real(fd, size); }
int rename(const char *from, const char *to) { REAL(int, "rename", const char *, const char *); at_path("rename", AT_FDCWD, to); return real(from, to); }
int renameat(int a, const char *from, int b, const char *to) { REAL(int, "renameat", int, const char *, int, const char *); at_path("rename", b, to); return real(a, from, b, to); }
int renameat2(int a, const char *from, int b, const char *to, unsigned f) { REAL(int, "renameat2", int, const char *, int, const char *, unsigned); at_path("rename", b, to); return real(a, from, b, to, f); }
int unlink(const char *path) { REAL(int, "unlink", const char *); at_path("unlink", AT_FDCWD, path); return real(path); }
int unlinkat(int dir, const char *path, int flags) { REAL(int, "unlinkat", int, const char *, int); at_path("unlink", dir, path); return real(dir, path, flags); }
int remove(const char *path) { REAL(int, "remove", const char *); at_path("unlink", AT_FDCWD, path); return real(path); }
