/* Says on which machine it runs: the one it was compiled for. */
#include <stdio.h>
#include <sys/utsname.h>

int main(int argc, char **argv)
{
    struct utsname machine;

    if (uname(&machine) != 0)
        return 1;
    printf("%s greets from %s\n", argc > 1 ? argv[1] : "knarr", machine.machine);
    return 0;
}
