#include "textflag.h"

// func deepen() int
TEXT ·deepen(SB),0,$24576-8
	MOVD	$24576, R0
	MOVD	R0, ret+0(FP)
	RET
