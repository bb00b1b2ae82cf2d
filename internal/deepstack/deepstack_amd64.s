#include "textflag.h"

// func deepen() int
TEXT ·deepen(SB),0,$24576-8
	MOVQ	$24576, ret+0(FP)
	RET
