/* What runs inside the containers of these tests: a program of few manners.
 *
 *   waiter serve       responds with "hello" to clients of port 8080; ends at SIGTERM
 *   waiter stubborn    waits, and ignores SIGTERM
 *   waiter exit CODE   says "bye" and ends
 *   waiter read FILE   prints a file and ends
 */
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void end(int signal) {
    (void)signal;
    _exit(0);
}

static int serve(void) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(8080)};
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 8) != 0)
        return 1;
    /* PID 1 gets no default handling of signals. */
    signal(SIGTERM, end);
    puts("up");
    fprintf(stderr, "to stderr\n");
    for (;;) {
        int peer = accept(listener, NULL, NULL);
        if (peer >= 0 && write(peer, "hello\n", 6) == 6)
            close(peer);
    }
}

static int print(const char *path) {
    char line[256];
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return 1;
    while (fgets(line, sizeof line, file) != NULL)
        fputs(line, stdout);
    return 0;
}

int main(int count, char **words) {
    const char *mode = count > 1 ? words[1] : "serve";
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(mode, "exit") == 0)
        return puts("bye") < 0 ? 1 : atoi(words[2]);
    if (strcmp(mode, "read") == 0)
        return print(words[2]);
    if (strcmp(mode, "stubborn") == 0) {
        signal(SIGTERM, SIG_IGN);
        puts("up");
        for (;;)
            pause();
    }
    return serve();
}
