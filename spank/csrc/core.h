/*
 * The core: what an option, a record and a hint say, whether they may be believed, and how to join.
 * No Slurm, no Python, no globals; the operating system only through struct slurmlet_ops.
 *
 * Functions return 0 or a count, or a negative errno with a sentence for the user in `why`.
 * Output parameters (ret_*) are left alone on failure.
 *
 * build.py gives this file to cffi without the lines that begin with #; write it for both.
 */
#ifndef SLURMLET_CORE_H
#define SLURMLET_CORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    SLURMLET_NAMESPACE_MAX = 63,
    SLURMLET_POD_MAX = 253,
    SLURMLET_CONTAINER_MAX = 63,
    SLURMLET_PATH_MAX = 4096,
    SLURMLET_MESSAGE_MAX = 1024,
    SLURMLET_BOOT_MAX = 63,
    SLURMLET_RECORD_MAX = 65536,
    SLURMLET_HINT_MAX = 1048576,
    SLURMLET_ENVIRONMENT_MAX = 2097152,
    SLURMLET_JSON_DEPTH = 16,
    SLURMLET_JSON_TOKENS = 8192,
    SLURMLET_USER_DEPTH = 32,
};

/* The order is the order of joining: see plan.c. */
enum {
    SLURMLET_USER,
    SLURMLET_IPC,
    SLURMLET_UTS,
    SLURMLET_NET,
    SLURMLET_PID,
    SLURMLET_MNT,
    SLURMLET_KINDS,
};

struct slurmlet_message {
    char text[SLURMLET_MESSAGE_MAX];
};

/* --k8s-pod=NAMESPACE/POD[:CONTAINER]; an empty container is the pod's default one. */
struct slurmlet_target {
    char namespace[SLURMLET_NAMESPACE_MAX + 1];
    char pod[SLURMLET_POD_MAX + 1];
    char container[SLURMLET_CONTAINER_MAX + 1];
};

int slurmlet_target_parse(const char *text, struct slurmlet_target *ret_target,
                          struct slurmlet_message *why);
/* --k8s-pod-ns=-net,-mnt: a bit (1 << kind) for each namespace that is left out. The user namespace
 * is joined in any case, because it owns the others; its bit says that the ids in it are not
 * wanted. */
int slurmlet_left_out_parse(const char *text, unsigned int *ret_mask, struct slurmlet_message *why);
/* Whether a Slurm job of this name is the pod's: UID8/NAMESPACE/POD. */
bool slurmlet_is_job_name(const char *name, const struct slurmlet_target *target);

/* JSON: the strict language, but numbers are integers of 64 bits and no string holds a NUL. */
enum {
    SLURMLET_JSON_NULL,
    SLURMLET_JSON_TRUE,
    SLURMLET_JSON_FALSE,
    SLURMLET_JSON_INTEGER,
    SLURMLET_JSON_STRING,
    SLURMLET_JSON_ARRAY,
    SLURMLET_JSON_OBJECT,
};

/* Tokens stand in the order of the text; `next` is the index behind a token and all inside it. */
struct slurmlet_token {
    int type;
    int next;
    int64_t integer;
    const char *string;
};

/* Rewrites `text`, into which the tokens point. The count of tokens, or -EINVAL, -E2BIG. */
int slurmlet_json_parse(char *text, size_t size, struct slurmlet_token *tokens, int capacity);
/* The index of a member's value; -ENOENT, or -EINVAL if the name stands there twice. */
int slurmlet_json_member(const struct slurmlet_token *tokens, int object, const char *name);

struct slurmlet_pin {
    bool present;
    uint64_t device;
    uint64_t inode;
};

/* record.json, which root wrote; a sandbox that could not be made has `error` and no pins. */
struct slurmlet_record {
    uint32_t job;
    uint32_t uid;
    uint32_t gid;
    char boot[SLURMLET_BOOT_MAX + 1];
    char error[SLURMLET_MESSAGE_MAX];
    struct slurmlet_pin pins[SLURMLET_KINDS];
};

int slurmlet_record_parse(char *text, size_t size, struct slurmlet_record *ret_record,
                          struct slurmlet_message *why);

/* A container as the user's own pod/containers.json says; nothing of it is believed unchecked. */
struct slurmlet_hint {
    int32_t pid;
    uint64_t start;
    char directory[SLURMLET_PATH_MAX];
    char environment[SLURMLET_POD_MAX + 1];
};

int slurmlet_hint_parse(char *text, size_t size, const struct slurmlet_target *target,
                        struct slurmlet_hint *ret_hint, struct slurmlet_message *why);

/* What is asked of a descriptor: fstat(2) and the magic number of fstatfs(2). */
struct slurmlet_status {
    uint64_t device;
    uint64_t inode;
    uint32_t mode;
    uint32_t uid;
    int64_t size;
    int64_t filesystem;
};

/* The operating system. Every function returns a negative errno on failure. */
struct slurmlet_ops {
    void *context;
    /* openat(2); O_CLOEXEC is added. */
    int (*open)(void *context, int directory, const char *path, int flags);
    int (*close)(void *context, int fd);
    ssize_t (*read)(void *context, int fd, void *buffer, size_t size);
    int (*status)(void *context, int fd, struct slurmlet_status *ret_status);
    /* setns(2) with one CLONE_NEW* flag. */
    int (*join)(void *context, int fd, int type);
    /* ioctl_ns(2): the user namespace that owns one, and the parent of a user namespace. */
    int (*owner)(void *context, int fd);
    int (*parent)(void *context, int fd);
    int (*process)(void *context, int pid);
    /* 1 while the process of a pidfd lives, 0 after. */
    int (*alive)(void *context, int pidfd);
    /* Makes an open directory root and working directory. */
    int (*root)(void *context, int fd);
    int64_t (*uid)(void *context);
};

/* A verified sandbox; descriptors are -1 where there is nothing. */
struct slurmlet_sandbox {
    int directory;
    int pod;
    int pins[SLURMLET_KINDS];
    struct slurmlet_record record;
};

/* A verified container: its process cannot be another one than the hint meant. What it may do at
 * most, the kernel says. */
struct slurmlet_container {
    int directory;
    int pidfd;
    uint64_t capabilities;
    bool no_new_privileges;
    /* It has seccomp filters that this process has not. */
    bool filtered;
    struct slurmlet_hint hint;
};

void slurmlet_sandbox_init(struct slurmlet_sandbox *sandbox);
void slurmlet_sandbox_close(const struct slurmlet_ops *ops, struct slurmlet_sandbox *sandbox);
void slurmlet_container_init(struct slurmlet_container *container);
void slurmlet_container_close(const struct slurmlet_ops *ops, struct slurmlet_container *container);

/* Opens JOBS/JOB and checks that root wrote it, for this user, job and boot, and that the pins are
 * the namespaces that it names. -ENOENT: the job has no sandbox. */
int slurmlet_sandbox_open(const struct slurmlet_ops *ops, const char *jobs, uint32_t job,
                          struct slurmlet_sandbox *ret_sandbox, struct slurmlet_message *why);
/* Reads the hint as the user and opens the process that it names, which must be of the same job. */
int slurmlet_container_open(const struct slurmlet_ops *ops, const struct slurmlet_sandbox *sandbox,
                            const struct slurmlet_target *target,
                            struct slurmlet_container *ret_container, struct slurmlet_message *why);
/* Joins the sandbox's namespaces alone; bits of `left_out` are not joined. */
int slurmlet_join_sandbox(const struct slurmlet_ops *ops, const struct slurmlet_sandbox *sandbox,
                          unsigned int left_out, struct slurmlet_message *why);
/* Joins the sandbox, then the container's PID and mount namespace and its root directory. -EPERM
 * for a container with seccomp filters, unless its files are left out. */
int slurmlet_join_container(const struct slurmlet_ops *ops, const struct slurmlet_sandbox *sandbox,
                            const struct slurmlet_container *container, unsigned int left_out,
                            struct slurmlet_message *why);

/* The order in which namespaces are joined; `nested` has the bits of those that belong to the
 * container's own user namespace below the sandbox's. Returns their count. */
int slurmlet_plan(unsigned int present, unsigned int nested, unsigned int left_out,
                  int ret_order[SLURMLET_KINDS + 1]);

/* Whether a variable belongs to Slurm or its launchers and is never taken from a pod. */
bool slurmlet_is_kept_variable(const char *entry);
/* The environment of a step in a pod: the pod's NUL-terminated entries over the step's own. A
 * malloc'ed list of pointers into both, ended by NULL; NULL when there is no memory. */
char **slurmlet_environment_merge(char *const *own, char *pod, size_t size);
/* Reads pod/NAME as the user into malloc'ed memory with a NUL behind it; its size. */
ssize_t slurmlet_environment_read(const struct slurmlet_ops *ops,
                                  const struct slurmlet_sandbox *sandbox, const char *name,
                                  char **ret_text, struct slurmlet_message *why);

/* srun's command line, split where its own options end and the command begins. */
struct slurmlet_srun {
    bool job_given;
    bool multi_prog;
    /* An option that cannot be had together with a pod; NULL if there is none. */
    const char *refused;
    /* The value of --chdir, NULL without; it is meant for the pod. */
    const char *directory;
    /* How many words of `argv` belong to --chdir, in `directory_words` from `directory_at` on. */
    int directory_at;
    int directory_words;
};

/* `command` is the index of the command in `argv`, as getopt's optind says. */
void slurmlet_srun_read(int argc, char *const *argv, int command, struct slurmlet_srun *ret_srun);
/* The words of the second srun: no --chdir, `options` (NULL-terminated) first, `guard` before the
 * command, or `config` in the place of the file of --multi-prog. Malloc'ed list of pointers into
 * its parameters. */
char **slurmlet_srun_words(int argc, char *const *argv, int command,
                           const struct slurmlet_srun *srun, char *const *options,
                           const char *guard, const char *config);
/* The environment of the second srun: what an outer job says of itself is left out if `foreign`,
 * `added` (NULL-terminated) is in it. Malloc'ed list of pointers into its parameters. */
char **slurmlet_srun_environment(char *const *own, bool foreign, char *const *added);
/* The file of --multi-prog with `guard` before each command; malloc'ed. NULL without memory. */
char *slurmlet_srun_programs(const char *text, const char *guard);

/* The kernel's own functions. */
void slurmlet_ops_default(struct slurmlet_ops *ret_ops);
const char *slurmlet_kind_name(int kind);
int slurmlet_kind_flag(int kind);
/* Formats into `why`, cut to its size, and returns `error`. */
int slurmlet_fail(struct slurmlet_message *why, int error, const char *format, ...);

#endif
