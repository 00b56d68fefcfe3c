mod against_definitions;
mod by_hand;
mod histories;
