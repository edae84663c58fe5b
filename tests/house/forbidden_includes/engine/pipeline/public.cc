// Kept to show that the test of the floors finds this edge.
#include "engine/nasbackup.h"
