// Measures lower bounds for any container server, without one.
//
//   floor run PROGRAM [ARGUMENT]...    one run of a program, such as a CNI plugin or crun; "WALL CPU" goes to fd 3
//   floor start ROOT SCRATCH COUNT CGROUP...    the kernel's part of a container start; prints COUNT lines "WALL CPU"
//   floor exec ROOT SCRATCH COUNT CGROUP...     the same for an exec into a running container
//   floor flush SCRATCH COUNT                   replaces a 2 KiB file by a new one that is flushed to disk first
//   floor write SCRATCH FILES BYTES             writes FILES files of BYTES, 100 per directory, with mode and times
//   floor read COUNT <LIST                      rereads all files in LIST, one path per line, COUNT times
//
// ROOT is a directory with /bin/true and /bin/sleep, SCRATCH a directory for overlays; each CGROUP is a directory in
// one hierarchy, below which containers get their own cgroups. Times are in nanoseconds. Any failure exits with a
// message.

#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static const int namespaces = CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;

struct overlay {
    const char *root;
    char upper[PATH_MAX], work[PATH_MAX], merged[PATH_MAX];
};

/** Terminated by a null pointer. */
typedef char *const *cgroup_list;

static long long wall(void) {
    struct timespec now;
    if (clock_gettime(CLOCK_MONOTONIC, &now) != 0) err(1, "clock_gettime");
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static long long cpu_of(const struct rusage *usage) {
    return (usage->ru_utime.tv_sec + usage->ru_stime.tv_sec) * 1000000000LL +
           (usage->ru_utime.tv_usec + usage->ru_stime.tv_usec) * 1000LL;
}

/** This process's own CPU time. */
static long long own_cpu(void) {
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) != 0) err(1, "getrusage");
    return cpu_of(&usage);
}

/** Reaps the child; returns its CPU time, including that of its own reaped children. */
static long long reap(pid_t pid, int *status) {
    struct rusage usage;
    if (wait4(pid, status, 0, &usage) < 0) err(1, "wait4");
    return cpu_of(&usage);
}

static void make_directory(const char *path) {
    if (mkdir(path, 0755) != 0) err(1, "mkdir %s", path);
}

static void join(char *into, const char *directory, const char *name, int number) {
    int length = number < 0 ? snprintf(into, PATH_MAX, "%s/%s", directory, name)
                            : snprintf(into, PATH_MAX, "%s/%s-%d", directory, name, number);
    if (length >= PATH_MAX) errx(1, "%s is too long", directory);
}

static void make_cgroups(cgroup_list cgroups) {
    for (; *cgroups != NULL; cgroups++) {
        char path[PATH_MAX];
        join(path, *cgroups, "container", -1);
        make_directory(path);
    }
}

/** Moves the calling process, using the cheapest file of each hierarchy. */
static void enter_cgroups(cgroup_list cgroups) {
    for (; *cgroups != NULL; cgroups++) {
        char path[PATH_MAX];
        join(path, *cgroups, "container/tasks", -1);
        int file = open(path, O_WRONLY | O_CLOEXEC);
        if (file < 0) {
            join(path, *cgroups, "container/cgroup.procs", -1);
            file = open(path, O_WRONLY | O_CLOEXEC);
        }
        if (file < 0 || write(file, "0", 1) != 1 || close(file) != 0) err(1, "joining %s", path);
    }
}

static void remove_cgroups(cgroup_list cgroups) {
    for (; *cgroups != NULL; cgroups++) {
        char path[PATH_MAX];
        join(path, *cgroups, "container", -1);
        if (rmdir(path) != 0) err(1, "rmdir %s", path);
    }
}

static void mount_or_end(const char *type, const char *target, unsigned long flags, const char *data) {
    if (mount(type, target, type, flags, data) != 0) err(1, "mount of %s on %s", type, target);
}

/** Mounts a container's default file systems (runtime spec) below the current directory. */
static void mount_container(void) {
    const unsigned long quiet = MS_NOSUID | MS_NOEXEC;
    mount_or_end("proc", "proc", quiet | MS_NODEV, NULL);
    mount_or_end("tmpfs", "dev", MS_NOSUID | MS_STRICTATIME, "mode=755,size=65536k");
    make_directory("dev/pts");
    mount_or_end("devpts", "dev/pts", quiet, "newinstance,ptmxmode=0666,mode=0620");
    make_directory("dev/shm");
    mount_or_end("tmpfs", "dev/shm", quiet | MS_NODEV, "mode=1777,size=65536k");
    make_directory("dev/mqueue");
    mount_or_end("mqueue", "dev/mqueue", quiet | MS_NODEV, NULL);
    mount_or_end("sysfs", "sys", quiet | MS_NODEV | MS_RDONLY, NULL);
    static const struct {
        const char *path;
        int minor;
    } devices[] = {{"dev/null", 3}, {"dev/zero", 5}, {"dev/full", 7}, {"dev/random", 8}, {"dev/urandom", 9}};
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++)
        if (mknod(devices[i].path, S_IFCHR | 0666, makedev(1, devices[i].minor)) != 0)
            err(1, "mknod %s", devices[i].path);
}

/** Runs in a container's first process: all steps up to the execve of `words`. */
static void become_container(const struct overlay *overlay, char *const words[]) {
    char options[3 * PATH_MAX + 64];
    snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s", overlay->root, overlay->upper,
             overlay->work);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) err(1, "making mounts private");
    mount_or_end("overlay", overlay->merged, 0, options);
    if (chdir(overlay->merged) != 0) err(1, "chdir %s", overlay->merged);
    mount_container();
    if (syscall(SYS_pivot_root, ".", ".") != 0) err(1, "pivot_root");
    if (umount2(".", MNT_DETACH) != 0) err(1, "umount of the old root");
    if (chdir("/") != 0) err(1, "chdir /");
    if (sethostname("floor", 5) != 0) err(1, "sethostname");
    execv(words[0], words);
    err(1, "execv %s", words[0]);
}

/** Creates the overlay's directories and the cgroups, and starts a container; returns after its execve. */
static pid_t start_container(struct overlay *overlay, const char *scratch, int number, char *const words[],
                             cgroup_list cgroups) {
    join(overlay->upper, scratch, "upper", number);
    join(overlay->work, scratch, "work", number);
    join(overlay->merged, scratch, "merged", number);
    make_directory(overlay->upper);
    make_directory(overlay->work);
    make_directory(overlay->merged);
    make_cgroups(cgroups);
    int begun[2];
    if (pipe2(begun, O_CLOEXEC) != 0) err(1, "pipe2");
    pid_t pid = (pid_t)syscall(SYS_clone, (unsigned long)namespaces | SIGCHLD, NULL, NULL, NULL, NULL);
    if (pid < 0) err(1, "clone");
    if (pid == 0) {
        enter_cgroups(cgroups);
        become_container(overlay, words);
    }
    close(begun[1]);
    // The execve closes the other end.
    char none;
    if (read(begun[0], &none, 1) != 0) err(1, "read of the pipe");
    close(begun[0]);
    return pid;
}

static void expect_success(int status, const char *what) {
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) errx(1, "%s ended with the wait status %d", what, status);
}

static int measure_starts(const char *root, const char *scratch, int count, cgroup_list cgroups) {
    char *words[] = {"/bin/true", NULL};
    for (int i = 0; i < count; i++) {
        struct overlay overlay = {.root = root};
        long long from = wall(), cpu = own_cpu();
        pid_t pid = start_container(&overlay, scratch, i, words, cgroups);
        long long took = wall() - from;
        int status;
        cpu = own_cpu() - cpu + reap(pid, &status);
        expect_success(status, "the container");
        remove_cgroups(cgroups);
        printf("%lld %lld\n", took, cpu);
    }
    return 0;
}

/** Enters all namespaces, forks, as the PID namespace requires, and executes the program. */
static void enter(pid_t container) {
    int pidfd = (int)syscall(SYS_pidfd_open, container, 0);
    if (pidfd < 0) err(1, "pidfd_open");
    if (setns(pidfd, namespaces) != 0) err(1, "setns");
    char *words[] = {"/bin/true", NULL};
    pid_t pid = vfork();
    if (pid < 0) err(1, "vfork");
    if (pid == 0) {
        execv(words[0], words);
        _exit(127);
    }
    int status;
    reap(pid, &status);
    _exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static int measure_execs(const char *root, const char *scratch, int count, cgroup_list cgroups) {
    struct overlay overlay = {.root = root};
    char *words[] = {"/bin/sleep", "3600", NULL};
    pid_t container = start_container(&overlay, scratch, 0, words, cgroups);
    for (int i = 0; i < count; i++) {
        long long from = wall(), cpu = own_cpu();
        pid_t pid = fork();
        if (pid < 0) err(1, "fork");
        if (pid == 0) {
            enter_cgroups(cgroups);
            enter(container);
        }
        int status;
        long long children = reap(pid, &status);
        expect_success(status, "the exec");
        printf("%lld %lld\n", wall() - from, own_cpu() - cpu + children);
    }
    if (kill(container, SIGKILL) != 0) err(1, "kill");
    int status;
    reap(container, &status);
    remove_cgroups(cgroups);
    return 0;
}

static int run(char *const words[]) {
    // The program must not inherit it: the reader waits for its last writer to close it.
    if (fcntl(3, F_SETFD, FD_CLOEXEC) != 0) err(1, "descriptor 3");
    pid_t pid;
    long long from = wall();
    int failure = posix_spawnp(&pid, words[0], NULL, NULL, words, environ);
    if (failure != 0) errx(1, "%s: %s", words[0], strerror(failure));
    int status;
    long long cpu = reap(pid, &status);
    dprintf(3, "%lld %lld\n", wall() - from, cpu);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int measure_flushes(const char *scratch, int count) {
    char draft[PATH_MAX], path[PATH_MAX], content[2048];
    join(draft, scratch, "record.new", -1);
    join(path, scratch, "record", -1);
    memset(content, 'x', sizeof content);
    for (int i = 0; i < count; i++) {
        long long from = wall(), cpu = own_cpu();
        int file = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (file < 0) err(1, "open %s", draft);
        if (write(file, content, sizeof content) != sizeof content) err(1, "write %s", draft);
        if (fdatasync(file) != 0 || close(file) != 0) err(1, "fdatasync %s", draft);
        if (rename(draft, path) != 0) err(1, "rename %s", draft);
        printf("%lld %lld\n", wall() - from, own_cpu() - cpu);
    }
    return 0;
}

/** Enough for about 3,000 pods. */
enum { files_at_most = 1 << 16 };

/** The files stay open, as in a server that reads them every few seconds. */
static int measure_reads(int count) {
    static int files[files_at_most];
    static char line[PATH_MAX], content[1 << 16];
    struct rlimit descriptors;
    if (getrlimit(RLIMIT_NOFILE, &descriptors) != 0) err(1, "getrlimit");
    descriptors.rlim_cur = descriptors.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &descriptors) != 0) err(1, "setrlimit");
    int found = 0;
    while (fgets(line, sizeof line, stdin) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (found == files_at_most) errx(1, "more than %d files", files_at_most);
        files[found] = open(line, O_RDONLY | O_CLOEXEC);
        if (files[found++] < 0) err(1, "open %s", line);
    }
    for (int i = 0; i < count; i++) {
        long long from = wall(), cpu = own_cpu();
        for (int file = 0; file < found; file++)
            if (pread(files[file], content, sizeof content, 0) <= 0) err(1, "pread of file %d", file);
        printf("%lld %lld\n", wall() - from, own_cpu() - cpu);
    }
    return 0;
}

static void write_file(int directory, const char *name, const char *content, size_t size) {
    int file = openat(directory, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (file < 0) err(1, "making file %s", name);
    for (size_t done = 0; done < size;) {
        ssize_t wrote = write(file, content + done, size - done);
        if (wrote < 0) err(1, "writing file %s", name);
        done += (size_t)wrote;
    }
    const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    if (futimens(file, times) != 0) err(1, "futimens of file %s", name);
    if (close(file) != 0) err(1, "close of file %s", name);
}

static int measure_writes(const char *scratch, int files, size_t size) {
    enum { per_directory = 100 };
    char *content = malloc(size);
    if (content == NULL) err(1, "malloc");
    memset(content, 'x', size);
    long long from = wall(), cpu = own_cpu();
    int directory = -1;
    for (int i = 0; i < files; i++) {
        char name[PATH_MAX];
        if (i % per_directory == 0) {
            if (directory >= 0) close(directory);
            join(name, scratch, "directory", i / per_directory);
            make_directory(name);
            directory = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
            if (directory < 0) err(1, "open %s", name);
        }
        snprintf(name, sizeof name, "file-%d", i);
        write_file(directory, name, content, size);
    }
    printf("%lld %lld\n", wall() - from, own_cpu() - cpu);
    free(content);
    return 0;
}

int main(int argc, char *argv[]) {
    if (argc >= 3 && strcmp(argv[1], "run") == 0) return run(argv + 2);
    if (argc >= 5 && strcmp(argv[1], "start") == 0) return measure_starts(argv[2], argv[3], atoi(argv[4]), argv + 5);
    if (argc >= 5 && strcmp(argv[1], "exec") == 0) return measure_execs(argv[2], argv[3], atoi(argv[4]), argv + 5);
    if (argc == 4 && strcmp(argv[1], "flush") == 0) return measure_flushes(argv[2], atoi(argv[3]));
    if (argc == 5 && strcmp(argv[1], "write") == 0) return measure_writes(argv[2], atoi(argv[3]), (size_t)atol(argv[4]));
    if (argc == 3 && strcmp(argv[1], "read") == 0) return measure_reads(atoi(argv[2]));
    errx(2, "usage: floor run PROGRAM [ARGUMENT]... | floor start|exec ROOT SCRATCH COUNT CGROUP... | floor flush SCRATCH COUNT | "
            "floor write SCRATCH FILES BYTES | floor read COUNT <LIST");
}
