/* speckv.h -- where programs written for the published calls look for them. */
#include "cxlspeckv/speckv.h"
