// Kept to show that the test of the floors finds this edge.
#include "engine/io/fault.h"
