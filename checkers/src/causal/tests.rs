mod against_definitions;
mod against_patterns;
mod by_hand;
mod stores;
