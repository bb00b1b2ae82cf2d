package sandbox

const pauseMachine = 62 // EM_X86_64

var pauseCode = []byte{
	0xb8, 13, 0, 0, 0, // mov eax, SYS_rt_sigaction
	0xbf, 17, 0, 0, 0, // mov edi, SIGCHLD
	0x48, 0x8d, 0x35, 23, 0, 0, 0, // lea rsi, [action]
	0x31, 0xd2, // xor edx, edx
	0x41, 0xba, 8, 0, 0, 0, // mov r10d, sizeof(sigset_t)
	0x0f, 0x05, // syscall
	0xb8, 34, 0, 0, 0, // sleep: mov eax, SYS_pause
	0x0f, 0x05, // syscall
	0xeb, 0xf7, // jmp sleep
	0, 0, 0, 0,
	1, 0, 0, 0, 0, 0, 0, 0, // action: SIG_IGN
	0, 0, 0, 0, 0, 0, 0, 0, // no flags
	0, 0, 0, 0, 0, 0, 0, 0, // no restorer
	0, 0, 0, 0, 0, 0, 0, 0, // no mask
}
