// SPDX-License-Identifier: GPL-2.0-only
/*
 * The first process of a guest: it makes system calls for whoever holds the other end.
 *
 * Rule of this file: it knows system calls, memory and probes, and nothing of KVM or VFIO. Which
 * modules to load, which drivers to bind and which functions to watch stands in /plan; which calls
 * to make comes through the channel.
 *
 * The channel is a piece of physical memory that the host maps too: a page of `struct header`, then
 * instructions, then answers. Bytes on the second serial line are the doorbells:
 *
 *     host:  'b' run the batch               guest: 'd' the batch is done
 *            'e' end this worker                    'r' a new worker is ready
 *                                                   'e' the worker ended: see worker_status
 *                                                   'f' no worker will come: see text
 *
 * A worker is a forked child; all it opened and mapped ends with it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#define LINE "/dev/ttyS1"
#define TRACING "/sys/kernel/tracing"
#define DEVICES "/sys/bus/pci/devices"
#define PAGE 4096
#define OUR_FDS 900
#define REGISTERS 4096
#define NO_REGISTER 0xffff
#define MOST_PROBES 64
#define PATIENCE 5			/* seconds that one call may take */
#define ROOM (64 << 10)			/* left free in the answers before each instruction */
#define SKIPPED INT64_MIN		/* result of an instruction that was not performed */
#define STUCK (INT64_MIN + 1)		/* result of a call that took longer than PATIENCE */

struct header {
	uint64_t instructions;		/* host: how many there are */
	uint64_t done;			/* guest: how many have answers */
	uint64_t answer_size;
	uint64_t position;		/* which one is being performed */
	uint64_t worker_status;		/* of the last worker, as waitpid gives it */
	uint64_t held;			/* references on modules that no worker can have left */
	uint64_t events_lost;
	uint64_t probes;		/* a bit for each probe of the plan that this kernel took */
	char text[PAGE - 64];		/* the kernel's own name, or why there is no worker */
};

struct instruction {
	uint8_t op, arguments;
	uint16_t into;			/* the register that gets the result */
	uint16_t registers;		/* a bit for each argument that is the number of a register */
	uint16_t unused;
	uint64_t argument[];
};

enum { CALL = 1, POKE, PEEK, PUT, LOAD, TAKE, SKIP_IF, SKIP_UNLESS, EVENTS, CHILD, SET, CLOSE_ALL, RUN };

struct event {
	uint64_t probe, argument;
};

static struct header *header;
static char *requests, *answers, *answers_end, *answer;
static int line = -1, trace = -1;
static int64_t reg[REGISTERS];
static uint64_t taken[REGISTERS];	/* when a handle got its fd: the how-manieth; 0 for none */
static uint64_t takes;
static uint16_t probe_of[1 << 16];	/* event id -> 1 + the probe's number */
static int argument_at[MOST_PROBES];	/* where a probe's argument is in its record */
static sigjmp_buf stop;
static volatile sig_atomic_t running, ticks;

/* -- set-up ----------------------------------------------------------------------------------- */

static void ring(char byte)
{
	while (write(line, &byte, 1) != 1)
		;
}

static void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	if (header) {
		vsnprintf(header->text, sizeof(header->text), format, arguments);
		ring('f');
	} else {
		vprintf(format, arguments);
	}
	va_end(arguments);
	for (;;)
		pause();
}

/* Write `text` to a file; 0 or -errno. */
static int put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int result = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		result = -errno;
	close(fd);
	return result;
}

/* The same file under a high number: a worker's own begin where any program's do. */
static int out_of_the_way(int fd)
{
	int high = fcntl(fd, F_DUPFD_CLOEXEC, OUR_FDS);

	close(fd);
	return high;
}

static long get_number(const char *path)
{
	FILE *file = fopen(path, "re");
	long value = -1;

	if (!file)
		return -1;
	if (fscanf(file, "%ld", &value) != 1)
		value = -1;
	fclose(file);
	return value;
}

static void mount_all(void)
{
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mkdir("/tmp", 01777);
	mount("proc", "/proc", "proc", 0, NULL);
	mount("sysfs", "/sys", "sysfs", 0, NULL);
	mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
	mount("tracefs", TRACING, "tracefs", 0, NULL);
}

static void open_line(void)
{
	struct termios raw;

	line = open(LINE, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (line < 0)
		fail("%s: %m\n", LINE);
	line = out_of_the_way(line);
	tcgetattr(line, &raw);
	cfmakeraw(&raw);
	cfsetspeed(&raw, B115200);
	raw.c_cflag |= CLOCAL;
	tcsetattr(line, TCSANOW, &raw);
}

/* channel PHYSICAL-ADDRESS REQUEST-BYTES ANSWER-BYTES */
static void map_channel(char *words)
{
	unsigned long at, request_bytes, answer_bytes;
	int mem = open("/dev/mem", O_RDWR | O_CLOEXEC);
	void *channel;

	if (sscanf(words, "%lx %lx %lx", &at, &request_bytes, &answer_bytes) != 3)
		fail("plan: channel %s\n", words);
	channel = mmap(NULL, PAGE + request_bytes + answer_bytes, PROT_READ | PROT_WRITE,
		       MAP_SHARED, mem, at);
	if (channel == MAP_FAILED)
		fail("/dev/mem at %#lx: %m\n", at);
	close(mem);
	header = channel;
	requests = (char *)channel + PAGE;
	answers = requests + request_bytes;
	answers_end = answers + answer_bytes;
}

/* module PATH [PARAMETERS] */
static void load_module(char *words)
{
	char *path = strtok(words, " "), *parameters = strtok(NULL, "");
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (syscall(SYS_finit_module, fd, parameters ? parameters : "", 0) < 0)
		fail("%s does not load: %s", path, strerror(errno));
	close(fd);
}

/*
 * probe NUMBER DEFINITION, of an event named x/pNUMBER. A kernel need not have the function; of
 * several lines with one number, the first that the kernel takes counts.
 */
static void add_probe(char *words)
{
	char path[128], *definition;
	unsigned long place = strtoul(words, &definition, 10);
	long id;

	definition++;
	if (place >= MOST_PROBES || header->probes >> place & 1)
		return;
	if (put_file(TRACING "/kprobe_events", definition) < 0)
		return;
	snprintf(path, sizeof(path), TRACING "/events/x/p%lu/id", place);
	id = get_number(path);
	snprintf(path, sizeof(path), TRACING "/events/x/p%lu/enable", place);
	if (id < 0 || put_file(path, "1") < 0)
		return;
	probe_of[id] = place + 1;
	argument_at[place] = definition[0] == 'r' ? 24 : 16;
	header->probes |= 1ull << place;
}

/* write PATH VALUE. What a kernel does not have is left out. */
static void write_value(char *words)
{
	char *path = strtok(words, " "), *value = strtok(NULL, "");

	put_file(path, value ? value : "");
}

/* bind ADDRESS DRIVER, unless the driver has it already */
static void bind_device(const char *words)
{
	char address[32], driver[32], path[128], now[128];
	ssize_t length;

	if (sscanf(words, "%31s %31s", address, driver) != 2)
		fail("plan: bind %s", words);
	snprintf(path, sizeof(path), DEVICES "/%s/driver", address);
	length = readlink(path, now, sizeof(now) - 1);
	if (length > 0) {
		now[length] = 0;
		if (!strcmp(strrchr(now, '/') + 1, driver))
			return;
		strcat(path, "/unbind");
		put_file(path, address);
	}
	snprintf(path, sizeof(path), DEVICES "/%s/driver_override", address);
	put_file(path, driver);
	if (put_file("/sys/bus/pci/drivers_probe", address) < 0)
		fail("%s does not bind to %s", address, driver);
}

static char *plan_text(void)
{
	static char text[16 << 10];
	int fd = open("/plan", O_RDONLY | O_CLOEXEC);
	ssize_t length = read(fd, text, sizeof(text) - 1);

	close(fd);
	if (length < 0)
		fail("/plan: %m\n");
	return text;
}

static void follow_plan(void)
{
	char *next, *text = strdup(plan_text());

	for (char *row = text; row && *row; row = next) {
		char *words;

		next = strchr(row, '\n');
		if (next)
			*next++ = 0;
		words = strchr(row, ' ');
		*words++ = 0;
		if (!strcmp(row, "channel"))
			map_channel(words);
		else if (!strcmp(row, "module"))
			load_module(words);
		else if (!strcmp(row, "probe"))
			add_probe(words);
		else if (!strcmp(row, "write"))
			write_value(words);
		else if (!strcmp(row, "bind"))
			bind_device(words);
		else
			fail("plan: %s", row);
	}
	free(text);
}

static void bind_again(void)
{
	char row[128];
	const char *text = plan_text();

	while ((text = strstr(text, "\nbind "))) {
		text += strlen("\nbind ");
		snprintf(row, sizeof(row), "%.*s", (int)strcspn(text, "\n"), text);
		bind_device(row);
	}
}

/* -- events ----------------------------------------------------------------------------------- */

static void keep_event(const char *record, size_t size)
{
	uint16_t id;
	struct event event = { 0 };
	size_t at;

	memcpy(&id, record, sizeof(id));
	if (!probe_of[id])
		return;
	event.probe = probe_of[id] - 1;
	at = argument_at[event.probe];
	if (size > at)
		memcpy(&event.argument, record + at, size - at < 8 ? size - at : 8);
	if (answer + sizeof(event) > answers_end) {
		header->events_lost = 1;
		return;
	}
	memcpy(answer, &event, sizeof(event));
	answer += sizeof(event);
}

/* The records of one page of the trace's ring buffer, as trace_pipe_raw hands it out. */
static void read_page(const char *page)
{
	const char *record = page + 16, *end;
	uint64_t commit;

	memcpy(&commit, page + 8, sizeof(commit));
	if (commit & 0xc0000000)
		header->events_lost = 1;
	end = record + (commit & 0xfffff);
	while (record < end) {
		uint32_t head, size;

		memcpy(&head, record, sizeof(head));
		memcpy(&size, record + 4, sizeof(size));
		switch (head & 31) {
		case 0:				/* the size is in the word that follows */
			keep_event(record + 8, size - 4);
			record += 4 + size;
			break;
		case 29:			/* padding; without a time it fills the page */
			if (!(head >> 5))
				return;
			record += 4 + size;
			break;
		case 30:			/* time only */
		case 31:
			record += 8;
			break;
		default:
			keep_event(record + 4, 4 * (head & 31));
			record += 4 + 4 * (head & 31);
		}
	}
}

static int64_t drain_events(void)
{
	static char page[PAGE];
	char *start = answer;

	while (read(trace, page, sizeof(page)) > 0)
		read_page(page);
	return (answer - start) / sizeof(struct event);
}

/* -- the worker ------------------------------------------------------------------------------- */

static void interrupted(int number)
{
	if (!running)
		return;
	if (number != SIGALRM)
		siglongjmp(stop, -EFAULT);
	if (++ticks > PATIENCE)
		siglongjmp(stop, 1);
}

static void catch_signals(void)
{
	static const int signals[] = { SIGALRM, SIGSEGV, SIGBUS };
	struct sigaction action = { .sa_handler = interrupted,
				    .sa_flags = SA_RESTART | SA_NODEFER };

	for (unsigned int i = 0; i < sizeof(signals) / sizeof(*signals); i++)
		sigaction(signals[i], &action, NULL);
	signal(SIGPIPE, SIG_IGN);
}

static void clock_runs(int on)
{
	struct itimerval timer = { { on, 0 }, { on, 0 } };

	setitimer(ITIMER_REAL, &timer, NULL);
}

static int64_t system_call(const uint64_t *a)
{
	register uint64_t r10 asm("r10") = a[4], r8 asm("r8") = a[5], r9 asm("r9") = a[6];
	int64_t result;

	asm volatile("syscall" : "=a"(result)
		     : "0"(a[0]), "D"(a[1]), "S"(a[2]), "d"(a[3]), "r"(r10), "r"(r8), "r"(r9)
		     : "rcx", "r11", "memory");
	return result;
}

/* A forked child makes the call, if there is one, and exits: its result. */
static int64_t in_forked_child(const uint64_t *a, int is_call)
{
	volatile int64_t *result = (int64_t *)(answer + 8);	/* shared, and still free */
	int status;
	pid_t child;

	*result = 0;
	child = fork();
	if (child == 0) {
		if (is_call)
			*result = system_call(a);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		return -errno;
	return *result;
}

/* In a child: a program as a shell would start it, but what it says goes to `out`. */
static void become_program(char **argv, int out)
{
	static char *environment[] = { "PATH=/bin", "HOME=/", NULL };

	setsid();
	signal(SIGPIPE, SIG_DFL);
	out = fcntl(out, F_DUPFD_CLOEXEC, OUR_FDS);
	dup2(out, 1);
	dup2(out, 2);
	close(0);
	open("/dev/null", O_RDONLY);
	for (int fd = 3; fd < OUR_FDS; fd++)
		close(fd);
	execve(argv[0], argv, environment);
	_exit(127);
}

/* What waitpid says of the program; -ETIMEDOUT when it, with all it started, had to be killed. */
static int64_t run_program(char **argv, int out, uint64_t seconds)
{
	pid_t child = fork();
	int status, late = 0;

	if (child == 0)
		become_program(argv, out);
	if (child < 0)
		return -errno;
	running = 0;			/* it may take longer than one call */
	for (uint64_t waited = 0; waitpid(child, &status, WNOHANG) == 0; waited++) {
		if (waited > 100 * seconds && !late++)
			kill(-child, SIGKILL);
		usleep(10000);
	}
	kill(-child, SIGKILL);
	return late ? -ETIMEDOUT : status;
}

/* Close what handles have, the newest first. */
static int64_t close_handles(void)
{
	for (;;) {
		int newest = 0;

		for (int i = 0; i < REGISTERS; i++)
			if (taken[i] > taken[newest])
				newest = i;
		if (!taken[newest])
			return 0;
		if (reg[newest] >= 0)
			close(reg[newest]);
		taken[newest] = 0;
		reg[newest] = -1;
	}
}

/* Performs one instruction whose blob, if it has one, is at `blob`. */
static int64_t perform(const struct instruction *instruction, const uint64_t *a, const char *blob,
		       unsigned int *skip)
{
	int64_t old;

	switch (instruction->op) {
	case CALL:
		return system_call(a);
	case POKE:
		memcpy((void *)a[0], blob, a[1]);
		return 0;
	case PEEK:
		memcpy(answer + 8, (void *)a[0], a[1]);
		return a[1];
	case PUT:
		memcpy((void *)a[0], &a[1], a[2]);
		return 0;
	case LOAD:
		return *(int32_t *)a[0];
	case TAKE:			/* a handle: `into` gets the fd, and its old one is closed */
		old = reg[instruction->into];
		if (old >= 0)
			close(old);
		taken[instruction->into] = ++takes;
		return (int64_t)a[0] < 0 ? -1 : (int64_t)a[0];
	case CLOSE_ALL:
		return close_handles();
	case SKIP_IF:
		*skip = a[0] == a[1] ? a[2] : 0;
		return 0;
	case SKIP_UNLESS:
		*skip = a[0] != a[1] ? a[2] : 0;
		return 0;
	case CHILD:
		return in_forked_child(a, instruction->arguments);
	case SET:
		return a[0];
	case RUN:
		return run_program((char **)a[0], a[1], a[2]);
	}
	return -ENOSYS;
}

static size_t padded(size_t size)
{
	return (size + 7) & ~7ul;
}

static void run_batch(void)
{
	static const char *request;	/* static: a jump must not undo them */
	static uint64_t done;
	static unsigned int skip;	/* outlives a batch that was cut short */
	int broken;

	request = requests;
	done = 0;
	answer = answers;
	header->done = header->answer_size = 0;
	clock_runs(1);
	/* A call that never ends, or memory that is not there, comes back here. */
	broken = sigsetjmp(stop, 0);
	while (done < header->instructions && answer + ROOM < answers_end) {
		const struct instruction *instruction = (const void *)request;
		const char *blob = request + sizeof(*instruction) + 8 * instruction->arguments;
		uint64_t a[8] = { 0 };
		int64_t result = SKIPPED;
		char *events;

		for (int i = 0; i < instruction->arguments; i++)
			a[i] = instruction->registers >> i & 1 ? (uint64_t)reg[instruction->argument[i]]
							       : instruction->argument[i];
		header->position = done;
		if (broken) {
			result = broken == 1 ? STUCK : broken;
			broken = 0;
		} else if (skip) {
			skip--;
		} else if (instruction->op == EVENTS) {
			events = answer;
			answer += 8;
			result = drain_events();
			memcpy(events, &result, 8);
		} else {
			ticks = 0;
			running = 1;
			result = perform(instruction, a, blob, &skip);
			running = 0;
		}
		running = 0;
		if (instruction->into != NO_REGISTER && result != SKIPPED)
			reg[instruction->into] = result;
		if (instruction->op != EVENTS || result == SKIPPED) {
			memcpy(answer, &result, 8);
			answer += 8;
		}
		if (instruction->op == PEEK && result > 0)
			answer += padded(result);
		request = blob + (instruction->op == POKE ? padded(a[1]) : 0);
		header->done = ++done;
	}
	clock_runs(0);
	header->answer_size = answer - answers;
}

static void worker(void)
{
	char byte;

	memset(reg, 0xff, sizeof(reg));
	catch_signals();
	ring('r');
	while (read(line, &byte, 1) == 1) {
		if (byte == 'e')
			_exit(0);
		run_batch();
		ring('d');
	}
	_exit(1);
}

/* -- between workers -------------------------------------------------------------------------- */

/* How often modules are in use: every open file of a driver, every VM counts. */
static long module_references(void)
{
	FILE *list = fopen("/proc/modules", "re");
	long count, sum = 0;

	while (list && fscanf(list, "%*s %*s %ld %*[^\n]", &count) == 1)
		sum += count;
	if (list)
		fclose(list);
	return sum;
}

static void forget_files(void)
{
	DIR *directory = opendir("/tmp");
	struct dirent *entry;

	while (directory && (entry = readdir(directory)))
		unlinkat(dirfd(directory), entry->d_name, 0);
	if (directory)
		closedir(directory);
}

int main(void)
{
	struct utsname name;
	long references;
	int status;
	pid_t pid;

	mount_all();
	open_line();
	follow_plan();
	trace = open(TRACING "/per_cpu/cpu0/trace_pipe_raw", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (trace < 0)
		fail("trace_pipe_raw: %s", strerror(errno));
	trace = out_of_the_way(trace);
	references = module_references();
	uname(&name);
	snprintf(header->text, sizeof(header->text), "%s %s", name.release, name.version);
	for (;;) {
		pid = fork();
		if (pid == 0)
			worker();
		if (pid < 0)
			fail("fork: %s", strerror(errno));
		while (waitpid(-1, &status, 0) != pid)
			;
		header->worker_status = status;
		answer = answers;
		drain_events();
		header->answer_size = answer - answers;
		forget_files();
		bind_again();
		header->held = module_references() - references;
		ring('e');
	}
}
