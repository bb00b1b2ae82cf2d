//go:build amd64 || arm64

#include "textflag.h"

// What gosudacon_entry hands to the kernel. The path's last zero is also the empty path.

DATA	gosudacon_exe+0(SB)/8, $"/proc/se"
DATA	gosudacon_exe+8(SB)/8, $"lf/exe\x00\x00"
GLOBL	gosudacon_exe(SB), RODATA|NOPTR, $16

DATA	gosudacon_name+0(SB)/8, $"gosudaco"
DATA	gosudacon_name+8(SB)/8, $"n\x00\x00\x00\x00\x00\x00\x00"
GLOBL	gosudacon_name(SB), RODATA|NOPTR, $16

// struct mount_attr, mount_setattr(2): attr_set is MOUNT_ATTR_RDONLY.
DATA	gosudacon_readonly+0(SB)/8, $1
GLOBL	gosudacon_readonly(SB), RODATA|NOPTR, $32
