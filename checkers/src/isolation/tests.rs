mod against_definitions;
