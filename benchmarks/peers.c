/* What the operating system needs for the same things. Prints nanoseconds per operation.
 *
 *   peers switch ROUNDS         two processes on one CPU hand a byte to and fro: time of one switch
 *   peers fork ROUNDS MEBIBYTES fork, _exit and wait, with so much memory touched before
 *   peers fork ROUNDS MEBIBYTES 1    ... and the child writes a byte of it
 */
#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e9 + t.tv_nsec;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void echo(int from, int to)
{
	char byte;
	while (read(from, &byte, 1) == 1)
		if (write(to, &byte, 1) != 1)
			break;
	_exit(0);
}

static double switch_ns(long rounds)
{
	int there[2], back[2];
	char byte = 0;
	if (pipe(there) || pipe(back))
		fail("pipe");
	pid_t child = fork();
	if (child < 0)
		fail("fork");
	if (child == 0) {
		close(there[1]);
		echo(there[0], back[1]);
	}
	double start = 0;
	for (long i = -rounds / 10; i < rounds; i++) {
		if (i == 0)
			start = now_ns();
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			fail("pipe");
	}
	double took = now_ns() - start;
	close(there[1]);
	waitpid(child, NULL, 0);
	return took / rounds / 2;
}

static double fork_ns(long rounds, size_t mebibytes, int writes)
{
	size_t bytes = mebibytes << 20;
	char *volatile memory = NULL;
	if (bytes) {
		memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED)
			fail("mmap");
		madvise(memory, bytes, MADV_NOHUGEPAGE);
		memset(memory, 1, bytes);
	}
	double start = now_ns();
	for (long i = 0; i < rounds; i++) {
		pid_t child = fork();
		if (child < 0)
			fail("fork");
		if (child == 0) {
			if (writes && memory)
				memory[bytes / 2] = 2;
			_exit(0);
		}
		waitpid(child, NULL, 0);
	}
	return (now_ns() - start) / rounds;
}

int main(int argc, char **argv)
{
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof one, &one);
	if (argc == 3 && strcmp(argv[1], "switch") == 0)
		printf("%.1f\n", switch_ns(atol(argv[2])));
	else if ((argc == 4 || argc == 5) && strcmp(argv[1], "fork") == 0)
		printf("%.1f\n", fork_ns(atol(argv[2]), (size_t)atol(argv[3]), argc == 5));
	else
		return 2;
	return 0;
}
