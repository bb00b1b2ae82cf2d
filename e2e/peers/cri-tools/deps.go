// Package critools pins cri-tools, from whose packages make builds crictl and critest.
package critools

import (
	_ "sigs.k8s.io/cri-tools/pkg/benchmark"
	_ "sigs.k8s.io/cri-tools/pkg/validate"
)
